"""Temporary script files of commands, and their interpreters."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from producers.assistant.accounts import Account
from producers.assistant.refusal import Refusal
from schemas.execution import CommandType
from schemas.execution_errors import ErrorCode

_INTERPRETERS: Mapping[CommandType, tuple[str, Sequence[Sequence[str]]]] = {
    CommandType.SHELL: ("command.sh", [["/bin/sh"]]),
    CommandType.BAT: ("command.bat", [["cmd.exe", "/c"]]),
    CommandType.POWER_SHELL: (
        "command.ps1",
        [[name, "-NoProfile", "-NonInteractive", "-File"] for name in ("pwsh", "powershell.exe")],
    ),
}
"""By command type: the script's file name, and its interpreters; the first that the host has is used."""


def interpreter(kind: CommandType, content: str) -> list[str]:
    """Returns the interpreter's command line, to which the script's path is added. A shell script may name another
    interpreter after `#!`. Raises Refusal if the host has none of them."""
    first = content.partition("\n")[0]
    if kind is CommandType.SHELL and first.startswith("#!") and first[2:].strip():
        candidates: Sequence[Sequence[str]] = [first[2:].split(maxsplit=1)]
    else:
        candidates = _INTERPRETERS[kind][1]
    for words in candidates:
        if shutil.which(words[0]):
            return [word.strip() for word in words]
    tried = " or ".join(words[0] for words in candidates)
    raise Refusal(ErrorCode.COMMAND_NOT_APPLICABLE, f"{kind} needs {tried}, which this host does not have")


@contextmanager
def script_file(kind: CommandType, content: str, account: Account, prefix: str) -> Generator[Path]:
    """Writes the script into a folder that only the user that runs it can read, and removes both at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        path = folder / _INTERPRETERS[kind][0]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        if account.other:
            os.chown(path, account.uid, account.gid)
            os.chown(folder, account.uid, account.gid)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(prefix: str) -> None:
    """Removes the folders that a killed agent left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)

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
"""File name and possible interpreters of a script, by command type. The first interpreter that the host has is used."""


def interpreter(kind: CommandType, content: str) -> list[str]:
    """Returns the interpreter's command line, to which the caller adds the path of the script. A shell script may name
    another interpreter after `#!`. Raises Refusal if the host has none of the interpreters."""
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
    """Writes the script into a new folder that only the user of `account` can read. Removes both on exit."""
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

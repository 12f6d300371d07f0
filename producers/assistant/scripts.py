"""A command as a file that an interpreter runs, for as long as it runs."""

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
"""By type: the script's name, and what may run it, the first that the host has."""


def interpreter(kind: CommandType, content: str) -> list[str]:
    """The words before the script's name. A shell script may name its own after `#!`, as Python or Perl do. Raises
    Refusal where the host has none."""
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
def script_file(kind: CommandType, content: str, who: Account, prefix: str) -> Generator[Path]:
    """The script in a folder that only the user who runs it can look into; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        path = folder / _INTERPRETERS[kind][0]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        if who.other:
            os.chown(path, who.uid, who.gid)
            os.chown(folder, who.uid, who.gid)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(prefix: str) -> None:
    """Remove the folders that an agent which was killed has left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)

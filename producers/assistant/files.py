"""Writes a file that a request sends: atomically, with its final owner and mode."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from producers.assistant.accounts import find_account, owner_ids
from producers.assistant.refusal import Refusal
from producers.assistant.requests import File
from schemas.execution import RecordState
from schemas.execution_errors import ErrorCode


def write_file(file: File, mark: str) -> None:
    """Writes the file into its target directory, which it creates if needed. `mark` is unique to this run. Raises
    Refusal."""
    uid, gid = owner_ids(file.owner, file.group)
    beside = _beside(file, mark)
    folder = beside.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed(ErrorCode.FILE_PATH_INVALID, f"{folder}: {error.strerror}") from None
    try:
        _write(beside, file, uid, gid)
        _move(beside, folder / file.name, overwrite=file.overwrite)
    except OSError as error:
        raise _failed(ErrorCode.FILE_CREATE_FAIL, f"{folder / file.name}: {error.strerror}") from None
    finally:
        remove_left_over(file, mark)


def remove_left_over(file: File, mark: str) -> None:
    """Removes the temporary file that a killed agent left."""
    with suppress(OSError):
        _beside(file, mark).unlink()


def _beside(file: File, mark: str) -> Path:
    """Returns the path of the temporary file, in the target directory."""
    folder = Path(file.target_dir or find_account("").home)
    return folder / f".heliograph-{mark.replace('/', '-')}"


def _write(path: Path, file: File, uid: int, gid: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.data)
        try:
            os.fchown(descriptor, uid, gid)
        except PermissionError:
            wanted = f"{file.owner}:{file.group}"
            raise _failed(
                ErrorCode.FILE_AUTHORITY_INVALID, f"the agent may not make {wanted} the owner of files"
            ) from None
        os.fchmod(descriptor, int(file.mode, 8))
        stream.flush()
        os.fsync(descriptor)


def _move(beside: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        beside.replace(path)
        return
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        raise _failed(ErrorCode.FILE_ALREADY_EXISTS, path.name) from None


def _failed(code: ErrorCode, why: str) -> Refusal:
    return Refusal(code, why, RecordState.FAILED)

"""Locks of the operating system on files: the kernel frees them when their holder dies, however it dies.

A lock belongs to the open file, so two holders in one process exclude each other, too. A child made by `fork` without
`exec` would share it, so worker processes must be spawned.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import BusUnavailable

_PAUSE = 0.005
_MODE = 0o644


def take(path: Path, *, shared: bool = False) -> int | None:
    """Locks the file `path`, and creates it if it is missing. A shared lock excludes only locks that are not shared.

    Returns the descriptor for `release`; None if another holds the lock. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release(descriptor: int) -> None:
    """Gives a lock back."""
    os.close(descriptor)


def is_held(path: Path) -> bool:
    """True if a live process holds the lock of `path`. Safe to call at the same time. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def take_new(path: Path, text: str) -> int:
    """Creates a file with the content `text` that is locked before anyone can see it; returns its lock. Raises OSError."""
    hidden = path.with_name(f".{path.name}")
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, text.encode())
    hidden.rename(path)
    return descriptor


@contextmanager
def waiting_lock(path: Path, seconds: float) -> Generator[None]:
    """Holds the lock of `path`, after waiting up to `seconds` for it. Raises BusUnavailable, OSError."""
    deadline = time.monotonic() + seconds
    while (descriptor := take(path)) is None:
        if time.monotonic() > deadline:
            raise BusUnavailable(f"{path}: locked by another process for {seconds:g} s; end that process")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        release(descriptor)


def discard(path: Path) -> None:
    """Removes a lock file that is no longer needed."""
    with suppress(FileNotFoundError):
        path.unlink()

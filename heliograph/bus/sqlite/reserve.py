"""The reserve of disk space: below it appends are refused, so that commits and their records still fit."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from heliograph.bus.sqlite.errors import translated
from schemas.errors import BusFull

_LOOK_EVERY = 0.25
_MIB = 1024 * 1024


class Reserve:
    """A limit on the free disk space, read at most four times a second. Safe to use from several threads."""

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self._path = path
        self._reserve = reserve_bytes
        self._lock = threading.Lock()
        self._free = 0
        self._next_look = 0.0

    def check(self) -> None:
        """Raises BusFull if less than the reserve is free."""
        if not self._reserve:
            return
        with self._lock:
            now = time.monotonic()
            if now >= self._next_look:
                self._free = free_bytes(self._path)
                self._next_look = now + _LOOK_EVERY
            free = self._free
        if free < self._reserve:
            raise BusFull(
                f"{self._path}: {free / _MIB:,.0f} MiB free, below the reserve of {self._reserve / _MIB:,.0f} MiB; "
                "free some space on its file system, or lower `reserve_mb` of [bus]"
            )


def free_bytes(path: Path) -> int:
    """Reads the bytes that the file system of `path` has left for this user."""
    with translated(path):
        state = os.statvfs(path.parent)
    return state.f_bavail * state.f_frsize

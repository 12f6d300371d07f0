"""Object store in memory: `memory://`, the public double of a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock

from heliograph.store.base import ObjectInfo
from heliograph.store.keys import check_key
from schemas.errors import ObjectMissing


class MemoryStore:
    """An ObjectStore in the memory of this process."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._lock = Lock()

    @property
    def url(self) -> str:
        """`memory://`; each object is a store of its own."""
        return "memory://"

    def put_new(self, key: str, body: bytes) -> bool:
        """Stores an object if its key is free."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = (bytes(body), _now())
            return True

    def put(self, key: str, body: bytes) -> None:
        """Stores or replaces an object."""
        check_key(key)
        with self._lock:
            self._objects[key] = (bytes(body), _now())

    def get(self, key: str) -> bytes:
        """Reads a whole object. Raises ObjectMissing."""
        check_key(key)
        try:
            return self._objects[key][0]
        except KeyError:
            raise ObjectMissing(f"no object {key!r} in {self.url}") from None

    def head(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object; None if it does not exist."""
        check_key(key)
        found = self._objects.get(key)
        return None if found is None else ObjectInfo(key, len(found[0]), found[1])

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yields the objects that exist at the first step, in order of their keys' bytes."""
        start = after.encode()
        with self._lock:
            keys = [key for key in self._objects if key.startswith(prefix) and key.encode() > start]
        for key in sorted(keys, key=str.encode):
            info = self.head(key)
            if info is not None:
                yield info

    def delete(self, key: str) -> None:
        """Deletes an object, if it exists."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def close(self) -> None:
        """Does nothing: there are no connections."""


def _now() -> int:
    return time.time_ns() // 1_000_000

"""A store that fails on command, in front of a real one."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.store.base import ObjectInfo, ObjectStore
from schemas.errors import StoreUnavailable


class Crash(BaseException):
    """The process is killed here."""


class FaultyStore:
    """Fails the next put before it stores (`fail_before`) or after (`fail_after`), or kills the caller after it
    (`crash_after`). While `down`, every operation fails."""

    def __init__(self, behind: ObjectStore) -> None:
        self.behind = behind
        self.fail_before = self.fail_after = self.crash_after = self.down = False
        self.listed: list[str] = []

    @property
    def url(self) -> str:
        return self.behind.url

    def put_new(self, key: str, body: bytes) -> bool:
        self._check()
        if self.fail_before:
            self.fail_before = False
            raise StoreUnavailable("not stored")
        stored = self.behind.put_new(key, body)
        if self.fail_after:
            self.fail_after = False
            raise StoreUnavailable("the answer was lost")
        if self.crash_after:
            self.crash_after = False
            raise Crash
        return stored

    def put(self, key: str, body: bytes) -> None:
        self._check()
        self.behind.put(key, body)

    def get(self, key: str) -> bytes:
        self._check()
        return self.behind.get(key)

    def head(self, key: str) -> ObjectInfo | None:
        self._check()
        return self.behind.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        self._check()
        for info in self.behind.list(prefix, after):
            self.listed.append(info.key)
            yield info

    def delete(self, key: str) -> None:
        self._check()
        self.behind.delete(key)

    def close(self) -> None:
        self.behind.close()

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("down")

"""A memory of what was seen lately, bounded in time and in number, at next to no cost an entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values last put under keys: those of the last `span` milliseconds, of the last `limit` keys at least.

    Two generations, of which the older is forgotten whole when the younger is full or has lasted for `span`: nothing
    is searched for what is to be forgotten, and there are never more than twice as many, and those last put at once.
    """

    __slots__ = ("_limit", "_old", "_span", "_until", "_young")

    def __init__(self, span: int, limit: int) -> None:
        self._span = span
        self._limit = limit
        self._until = 0
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        """How many entries are kept; a key that lies in both generations counts twice."""
        return len(self._young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """What was last put, if it is remembered."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: Key, value: Value, at: int) -> Value | None:
        """Remember `value` as of `at`, milliseconds since the epoch; returns what was remembered before."""
        self._forget(at)
        found = self.get(key)
        self._young[key] = value
        return found

    def put_all(self, keys: Sequence[Key], values: Sequence[Value], at: int) -> Sequence[tuple[int, Value]]:
        """As `put` of each key with its value; `at`: of the first. Where nothing repeats, that is one step for all.

        Returns, for each key that was remembered, its place among `keys` and what was put before.
        """
        self._forget(at)
        young = self._young
        fresh = dict(zip(keys, values, strict=True))
        if (
            len(fresh) == len(keys)
            and young.keys().isdisjoint(fresh.keys())
            and self._old.keys().isdisjoint(fresh.keys())
        ):
            young.update(fresh)
            return ()
        repeated: list[tuple[int, Value]] = []
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            found = self.get(key)
            if found is not None:
                repeated.append((place, found))
            young[key] = value
        return repeated

    def _forget(self, at: int) -> None:
        if at > self._until or len(self._young) >= self._limit:
            self._old, self._young, self._until = self._young, {}, at + self._span

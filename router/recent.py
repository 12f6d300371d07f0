"""A memory of recent values, bounded in time and in number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The last value of each key: at least those of the last `span` milliseconds, up to the last `limit` keys.

    Entries are in two generations. When the younger is full or older than `span`, the older is dropped as a whole, so
    that no search is needed. The memory holds at most twice `limit` entries, and those of the last `put_all`.
    """

    __slots__ = ("_limit", "_old", "_span", "_until", "_young")

    def __init__(self, span: int, limit: int) -> None:
        self._span = span
        self._limit = limit
        self._until = 0
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        """Returns the number of entries; a key in both generations counts twice."""
        return len(self._young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """Returns the last value of a key, if it is remembered."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: Key, value: Value, at: int) -> Value | None:
        """Stores a value seen at `at`, milliseconds since the epoch; returns the previous value of the key."""
        self._rotate(at)
        found = self.get(key)
        self._young[key] = value
        return found

    def put_all(self, keys: Sequence[Key], values: Sequence[Value], at: int) -> Sequence[tuple[int, Value]]:
        """Stores values that were seen at `at` or later; takes one step for all of them if no key repeats.

        Returns the index in `keys` and the previous value of each key that was remembered.
        """
        self._rotate(at)
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

    def _rotate(self, at: int) -> None:
        if at > self._until or len(self._young) >= self._limit:
            self._old, self._young, self._until = self._young, {}, at + self._span

"""Archives of several days, and stores that stop at any operation, for the tests of compaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from archiver.format.manifest import DAY
from archiver.format.segment import Draft
from archiver.maintain.compaction import CompactedDay, CompactionPolicy, compact
from archiver.maintain.removal import Removed, remove
from archiver.read.reader import read_records
from archiver.write.chain import Stored, Tail, append_segment, find_tail
from heliograph.store.base import ObjectInfo, ObjectStore
from schemas.clock import ManualClock
from schemas.record import Record
from tests.archiver.making import LOG, TOPIC, record
from tests.archiver.stores import Crash

Answer = TypeVar("Answer")

START = 1_704_067_200_000  # 2024-01-01T00:00:00Z
FIRST_DAY = "2024-01-01"
HOUR = 3_600_000
SMALL = CompactionPolicy(file_records=5)


def add(store: ObjectStore, *times: int, partition: int = 0, value: bytes = b"") -> Tail:
    """Stores a segment of records of these times, in milliseconds after START."""
    tail = find_tail(store, TOPIC, partition) or Tail(LOG, TOPIC, partition)
    at = tail.expected_offset
    records = [
        record(at + index, partition=partition, timestamp=START + time, value=value)
        for index, time in enumerate(times)
    ]
    outcome = append_segment(store, tail, Draft(records, at + len(records)))
    assert isinstance(outcome, Stored)
    return outcome.tail


def fill(store: ObjectStore) -> list[Record]:
    """Fills two partitions and three days, with a segment across midnight and late records; the tails are of day three."""
    for partition in (0, 1):
        for hour in (1, 2, 3):
            add(store, hour * HOUR, hour * HOUR + 5, partition=partition)
        add(store, DAY - 5, DAY + 5, partition=partition)
        add(store, 3 * HOUR, partition=partition)
        add(store, DAY + HOUR, DAY, DAY + 2 * HOUR, partition=partition)
        add(store, 2 * DAY + HOUR, partition=partition)
    return records_of(store)


def records_of(store: ObjectStore, since: int | None = None, until: int | None = None) -> list[Record]:
    """Reads every record, by partition and offset."""
    return sorted(read_records(store, [TOPIC], since, until), key=lambda one: one.partition)


def run(store: ObjectStore, day: float, policy: CompactionPolicy = SMALL) -> Sequence[CompactedDay]:
    """Compacts at a time in days after START."""
    return list(compact(store, ManualClock(START + round(day * DAY)), TOPIC, policy))


def clean(store: ObjectStore, day: float, grace: int = 0) -> Removed:
    """Removes unneeded objects at a time in days after START."""
    return remove(store, TOPIC, START + round(day * DAY), grace)


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    """Lists the keys."""
    return [info.key for info in store.list(prefix)]


class WatchedStore:
    """Calls `before` and `after` with the name of each operation and its key or prefix."""

    def __init__(
        self,
        behind: ObjectStore,
        before: Callable[[str, str], None] = lambda _operation, _key: None,
        after: Callable[[str, str], None] = lambda _operation, _key: None,
    ) -> None:
        self.behind = behind
        self._before = before
        self._after = after

    @property
    def url(self) -> str:
        return self.behind.url

    def put_new(self, key: str, body: bytes) -> bool:
        return self._watched("put_new", key, lambda: self.behind.put_new(key, body))

    def put(self, key: str, body: bytes) -> None:
        self._watched("put", key, lambda: self.behind.put(key, body))

    def get(self, key: str) -> bytes:
        return self._watched("get", key, lambda: self.behind.get(key))

    def head(self, key: str) -> ObjectInfo | None:
        return self._watched("head", key, lambda: self.behind.head(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        return iter(self._watched("list", prefix, lambda: list(self.behind.list(prefix, after))))

    def delete(self, key: str) -> None:
        self._watched("delete", key, lambda: self.behind.delete(key))

    def close(self) -> None:
        self.behind.close()

    def _watched(self, operation: str, key: str, call: Callable[[], Answer]) -> Answer:
        self._before(operation, key)
        result = call()
        self._after(operation, key)
        return result


def dying(behind: ObjectStore, operations: int, *, after: bool = False) -> WatchedStore:
    """Makes a store whose user is killed before, or right after, the operation that follows `operations` others."""
    left = operations

    def count(_operation: str, _key: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    return WatchedStore(behind, after=count) if after else WatchedStore(behind, before=count)

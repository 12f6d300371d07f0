"""The public double of the log: everything the seam promises, in one process and gone with it.

`MemoryBus` is the log, `MemoryConsumer` a member of a group; what they share lies in a `_Broker` under one lock.
Beyond the seam the double can lose records (`truncate`) and members (`kill`), so that roles are tested against both.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from heliograph.bus.admission import check_partition, check_sizes, check_topic
from heliograph.bus.base import Extent, Lag, PartitionsChanged, Polled
from heliograph.bus.partition import partition_for
from heliograph.bus.progress import Progress, by_partition
from schemas.clock import Clock, SystemClock
from schemas.record import Gap, NewRecord, Position, Record, TopicPartition
from schemas.topics import kind_of, matches


class _Log:
    """Records of one partition, without holes: `records[i]` has offset `start + i`."""

    def __init__(self) -> None:
        self.start = 0
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def read(self, offset: int, limit: int) -> Sequence[Record]:
        first = max(offset - self.start, 0)
        return self.records[first : first + limit]

    def offset_at(self, timestamp: int) -> int:
        return next((record.offset for record in self.records if record.timestamp >= timestamp), self.end)

    def truncate(self, before: int) -> None:
        if before > self.start:
            del self.records[: before - self.start]
            self.start = before


class _Group:
    """Commits (cursor and note), live members in the order of joining, and who owns what."""

    def __init__(self) -> None:
        self.commits: dict[TopicPartition, tuple[int, str]] = {}
        self.members: dict[str, MemoryConsumer] = {}
        self.owners: dict[TopicPartition, MemoryConsumer] = {}

    def share_of(self, member: MemoryConsumer, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
        """What falls to `member` when partitions are dealt out in turn to the members who want them."""
        share: set[TopicPartition] = set()
        turn = count()
        for partition in partitions:
            wanting = [each for each in self.members.values() if matches(partition.topic, each.wanted)]
            if wanting and wanting[next(turn) % len(wanting)] is member:
                share.add(partition)
        return share


class _Broker:
    """What a bus and its consumers share. Touched only with `changed` held, which is notified of every change."""

    def __init__(self, clock: Clock, partitions: int) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.generation = 0  # of topics, members and owners: who has seen this one need not share out again
        self.logs: dict[TopicPartition, _Log] = {}
        self.topics: dict[str, int] = {}
        self.groups: dict[str, _Group] = {}
        self.members = count(1)
        self._partitions = partitions
        self._turn = count()

    def regroup(self) -> None:
        """Have every consumer look at its share again."""
        self.generation += 1
        self.changed.notify_all()

    def create(self, topic: str, partitions: int | None = None) -> None:
        if topic in self.topics:
            return
        check_topic(topic)
        self.topics[topic] = partitions or self.partitions_of(topic)
        for partition in range(self.topics[topic]):
            self.logs[TopicPartition(topic, partition)] = _Log()
        self.regroup()

    def partitions_of(self, topic: str) -> int:
        """How many a topic has, or will have once it is made."""
        return self.topics.get(topic) or kind_of(topic).partitions or self._partitions

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """All or none: everything that can be refused is refused before the first record is written."""
        check_sizes(records)
        placed = [(TopicPartition(record.topic, self._place(record)), record) for record in records]
        now = self.clock.now()
        positions: list[Position] = []
        for (topic, partition), new in placed:
            self.create(topic)
            log = self.logs[TopicPartition(topic, partition)]
            positions.append(Position(topic, partition, log.end))
            log.records.append(Record(topic, partition, log.end, now, new.key, new.headers, new.value))
        self.changed.notify_all()
        return positions

    def _place(self, record: NewRecord) -> int:
        check_topic(record.topic)
        partitions = self.partitions_of(record.topic)
        if record.partition is not None:
            check_partition(record.topic, record.partition, partitions)
            return record.partition
        return next(self._turn) % partitions if record.key is None else partition_for(record.key, partitions)


class MemoryBus:
    """A log in memory. `partitions`: of a topic that says nothing else. `retention`: seconds; None keeps everything."""

    def __init__(
        self, clock: Clock | None = None, partitions: int = 4, *, retention: float | None = None
    ) -> None:
        self._broker = _Broker(clock or SystemClock(), partitions)
        self._changed = self._broker.changed
        self._retention = retention
        self._log_id = uuid.uuid4().hex

    @property
    def log_id(self) -> str:
        """Made anew with each object."""
        return self._log_id

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Append all or none."""
        with self._changed:
            return self._broker.append(records)

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> MemoryConsumer:
        """Join a group; what falls to the new member comes with its next polls."""
        with self._changed:
            shared = self._broker.groups.setdefault(group, _Group())
            name = f"{group}-{next(self._broker.members)}"
            member = MemoryConsumer(self._broker, shared, name, topics, gained=gained, lost=lost)
            shared.members[name] = member
            self._broker.regroup()
            return member

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Records outside any group; nothing of a partition that does not exist."""
        with self._changed:
            log = self._broker.logs.get(partition)
            if log is None:
                return Polled()
            gaps = [Gap(*partition, offset, log.start)] if offset < log.start else []
            return Polled(log.read(offset, limit), gaps)

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """First offset whose record is not older than `timestamp` (milliseconds)."""
        with self._changed:
            log = self._broker.logs.get(partition)
            return log.offset_at(timestamp) if log else 0

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Make a topic. Raises TopicMissing for a name that Apache Kafka would refuse."""
        with self._changed:
            self._broker.create(topic, partitions)

    def topics(self) -> Mapping[str, int]:
        """Every topic and its number of partitions."""
        with self._changed:
            return dict(self._broker.topics)

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """What there is of each partition of a topic."""
        with self._changed:
            logs = self._broker.logs.items()
            return {
                partition: Extent(log.start, log.end) for partition, log in logs if partition.topic == topic
            }

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Cursor and end of each partition that the group has a cursor for."""
        with self._changed:
            commits = self._broker.groups.get(group, _Group()).commits
            return {
                partition: Lag(cursor, self._broker.logs[partition].end)
                for partition, (cursor, _) in commits.items()
            }

    def groups(self) -> Sequence[str]:
        """Every group that has a cursor."""
        with self._changed:
            return sorted(name for name, group in self._broker.groups.items() if group.commits)

    def members(self, group: str) -> frozenset[str]:
        """Members that were neither closed nor killed."""
        with self._changed:
            return frozenset(self._broker.groups.get(group, _Group()).members)

    def maintain(self) -> None:
        """Remove what is older than the retention and behind every cursor."""
        if self._retention is None:
            return
        with self._changed:
            oldest = self._broker.clock.now() - round(self._retention * 1000)
            for partition, log in self._broker.logs.items():
                kind, cursors = kind_of(partition.topic), list(self._cursors(partition))
                if not kind.retained_forever and (cursors or not kind.until_consumed):
                    log.truncate(min([log.offset_at(oldest), *cursors]))

    def close(self) -> None:
        """Nothing to let go of: the log lives as long as the object."""

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Lose the records of a partition below offset `before`, whoever still wants them."""
        with self._changed:
            log = self._broker.logs[partition]
            log.truncate(min(before, log.end))
            self._changed.notify_all()

    def kill(self, member: str) -> None:
        """Make a consumer vanish as kill -9 would: no callbacks, no commit; what it still does commits nothing."""
        with self._changed:
            for group in self._broker.groups.values():
                if member in group.members:
                    group.members[member].vanish()

    def _cursors(self, partition: TopicPartition) -> Iterator[int]:
        for group in self._broker.groups.values():
            if partition in group.commits:
                yield group.commits[partition][0]


class MemoryConsumer:
    """A member of a group of a `MemoryBus`, which makes it."""

    def __init__(
        self,
        broker: _Broker,
        group: _Group,
        member: str,
        wanted: Sequence[str],
        *,
        gained: PartitionsChanged | None,
        lost: PartitionsChanged | None,
    ) -> None:
        self.wanted = tuple(wanted)
        self._broker = broker
        self._group = group
        self._member = member
        self._gained = gained
        self._lost = lost
        self._changed = broker.changed
        self._owned: dict[TopicPartition, Progress] = {}  # those served longest ago come first
        self._held: dict[TopicPartition, float] = {}
        self._seen = -1
        self._woken = False
        self._closed = False

    @property
    def member(self) -> str:
        """Group and a number."""
        return self._member

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Rebalance, then hand out; those partitions first that were served longest ago."""
        deadline = time.monotonic() + timeout
        while True:
            self._rebalance()
            with self._changed:
                polled = self._fetch(limit)
                left = deadline - time.monotonic()
                if polled.records or polled.gaps or self._woken or left <= 0 or self._closed:
                    self._woken = False
                    return polled
                if self._seen == self._broker.generation:
                    self._changed.wait(min([left, *self._waits()]))

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Finish and append in one step; what is no longer ours is not finished."""
        with self._changed:
            appended = self._broker.append(append)
            for partition, offsets in by_partition(positions).items():
                progress = self._owned.get(partition)
                if progress is not None:
                    progress.finish(offsets)
                    self._commit(partition, progress)
            return appended

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hand out nothing of a partition until then (the clock's monotonic seconds)."""
        if until is None:
            self._held.pop(partition, None)
        else:
            self._held[partition] = until

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hand out `offset` next; nothing happens if the partition is not ours."""
        with self._changed:
            if partition in self._owned:
                self._owned[partition].seek(offset)

    def assigned(self) -> frozenset[TopicPartition]:
        """What is ours now."""
        with self._changed:
            return frozenset(self._owned)

    def wake(self) -> None:
        """Make the poll that waits, or else the next one, return at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Give everything back; `lost` may still finish work."""
        if self._owned and self._lost is not None:
            self._lost(sorted(self._owned))
        with self._changed:
            self.vanish()

    def vanish(self) -> None:
        """Leave the group, without a word and for ever. The lock of the broker is held."""
        self._closed = True
        self._group.members.pop(self._member, None)
        self._release(list(self._owned))

    def _rebalance(self) -> None:
        """Give up what is no longer our share, take what is and has no owner. Callbacks run without the lock."""
        with self._changed:
            if self._closed or self._seen == self._broker.generation:
                return
            self._seen = self._broker.generation
            share = self._group.share_of(self, self._broker.logs)
            leaving = sorted(self._owned.keys() - share)
        if leaving:
            if self._lost is not None:
                self._lost(leaving)
            with self._changed:
                self._release(leaving)
        with self._changed:
            coming = [] if self._closed else sorted(share - self._group.owners.keys())
            for partition in coming:
                self._own(partition)
        if coming and self._gained is not None:
            self._gained(coming)

    def _own(self, partition: TopicPartition) -> None:
        start = self._broker.logs[partition].start
        commit = self._group.commits.setdefault(partition, (start, ""))
        self._owned[partition] = Progress.from_note(*commit)
        self._group.owners[partition] = self

    def _release(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)
            if self._group.owners.get(partition) is self:
                del self._group.owners[partition]
        self._broker.regroup()

    def _fetch(self, limit: int) -> Polled:
        records: list[Record] = []
        gaps: list[Gap] = []
        now = self._broker.clock.monotonic()
        for partition, progress in list(self._owned.items()):
            if len(records) == limit:
                break
            if self._held.get(partition, now) > now:
                continue
            log = self._broker.logs[partition]
            if progress.position < log.start:
                gaps.append(Gap(*partition, progress.position, log.start))
                progress.skip_to(log.start)
            taken = progress.take(log.read(progress.position, limit - len(records)))
            if taken:
                records.extend(taken)
                self._owned[partition] = self._owned.pop(partition)
        return Polled(records, gaps)

    def _waits(self) -> Iterator[float]:
        """Seconds until each held partition is let go."""
        now = self._broker.clock.monotonic()
        return (until - now for until in self._held.values() if until > now)

    def _commit(self, partition: TopicPartition, progress: Progress) -> None:
        """Store how far we are. After a seek backwards nothing is stored until we are past the stored cursor."""
        if progress.cursor >= self._group.commits[partition][0]:
            self._group.commits[partition] = (progress.cursor, progress.note())

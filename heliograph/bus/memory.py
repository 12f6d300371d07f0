"""The public double of the bus: everything the seam promises, in the memory of one process.

Beyond the seam it can lose records (`truncate`) and members (`kill`), for tests of programs that meet both.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from heliograph.bus.admission import check_sizes, check_topic
from heliograph.bus.base import Extent, Lag, PartitionsChanged, Polled
from heliograph.bus.holds import Holds
from heliograph.bus.partition import place
from heliograph.bus.progress import Progress, by_partition
from schemas.clock import Clock, SystemClock
from schemas.record import Gap, NewRecord, Position, Record, TopicPartition
from schemas.topics import kind_of, matches


class _Partition:
    """Records without holes: `records[i]` has offset `start + i`."""

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
    """Commits (cursor and note), and live members in the order of joining."""

    def __init__(self) -> None:
        self.commits: dict[TopicPartition, tuple[int, str]] = {}
        self.members: dict[str, MemoryConsumer] = {}

    def share_of(self, member: MemoryConsumer, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Deals partitions out in turn to the members that want them, and returns those of `member`."""
        share: set[TopicPartition] = set()
        turn = count()
        for partition in partitions:
            wanting = [each for each in self.members.values() if matches(partition.topic, each.wanted)]
            if wanting and wanting[next(turn) % len(wanting)] is member:
                share.add(partition)
        return share


class MemoryBus:
    """A bus in memory. `partitions`: of a topic that says nothing else. `retention`: seconds; None keeps everything.

    Its consumers share its state, under one lock, `changed`, which is notified of every change.
    """

    def __init__(
        self, clock: Clock | None = None, partitions: int = 4, *, retention: float | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.changed = threading.Condition()
        self.generation = 0  # grows with every change of topics, members and owners
        self.partitions: dict[TopicPartition, _Partition] = {}
        self._default_partitions = partitions
        self._retention = retention
        self._log_id = uuid.uuid4().hex
        self._topics: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._members = count(1)
        self._turn = count()

    @property
    def log_id(self) -> str:
        """A new id for each object."""
        return self._log_id

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Appends all or none: checks every record before the first is written."""
        with self.changed:
            check_sizes(records)
            numbers: list[int] = []
            for record in records:
                check_topic(record.topic)
                numbers.append(place(record, self._partitions_of(record.topic), next(self._turn)))
            now = self.clock.now()
            positions: list[Position] = []
            for new, number in zip(records, numbers, strict=True):
                self.create(new.topic)
                partition = self.partitions[TopicPartition(new.topic, number)]
                position = Position(new.topic, number, partition.end)
                partition.records.append(Record(*position, now, new.key, new.headers, new.value))
                positions.append(position)
            self.changed.notify_all()
            return positions

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> MemoryConsumer:
        """Joins a group; the new member's share comes with its next polls."""
        with self.changed:
            shared = self._groups.setdefault(group, _Group())
            name = f"{group}-{next(self._members)}"
            member = MemoryConsumer(self, shared, member=name, wanted=topics, gained=gained, lost=lost)
            shared.members[name] = member
            self.regroup()
            return member

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Reads records outside any group; nothing of a partition that does not exist."""
        with self.changed:
            found = self.partitions.get(partition, _Partition())
            gaps = [Gap(*partition, offset, found.start)] if offset < found.start else []
            return Polled(found.read(offset, limit), gaps)

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """Finds the first offset whose record is not older than `timestamp` (milliseconds)."""
        with self.changed:
            return self.partitions.get(partition, _Partition()).offset_at(timestamp)

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Creates a topic. Raises TopicMissing for a name that Apache Kafka would refuse."""
        check_topic(topic)
        with self.changed:
            if topic not in self._topics:
                self._topics[topic] = partitions or self._partitions_of(topic)
                for number in range(self._topics[topic]):
                    self.partitions[TopicPartition(topic, number)] = _Partition()
                self.regroup()

    def topics(self) -> Mapping[str, int]:
        """Lists every topic with its number of partitions."""
        with self.changed:
            return dict(self._topics)

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """Returns the extent of each partition of a topic."""
        with self.changed:
            every = self.partitions.items()
            return {name: Extent(each.start, each.end) for name, each in every if name.topic == topic}

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Returns cursor and end of each partition that the group has a cursor for."""
        with self.changed:
            commits = self._groups.get(group, _Group()).commits
            every = self.partitions
            return {name: Lag(cursor, every[name].end) for name, (cursor, _) in commits.items()}

    def groups(self) -> Sequence[str]:
        """Lists every group that has a cursor."""
        with self.changed:
            return sorted(name for name, group in self._groups.items() if group.commits)

    def members(self, group: str) -> frozenset[str]:
        """Lists the members that were neither closed nor killed."""
        with self.changed:
            return frozenset(self._groups.get(group, _Group()).members)

    def maintain(self) -> None:
        """Removes records that are older than the retention and behind every cursor."""
        if self._retention is None:
            return
        with self.changed:
            oldest = self.clock.now() - round(self._retention * 1000)
            commits = [group.commits for group in self._groups.values()]
            for name, partition in self.partitions.items():
                kind, cursors = kind_of(name.topic), [each[name][0] for each in commits if name in each]
                if not kind.retained_forever and (cursors or not kind.until_consumed):
                    partition.truncate(min([partition.offset_at(oldest), *cursors]))

    def close(self) -> None:
        """Does nothing: the records live as long as the object."""

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Loses the records of a partition below offset `before`, finished or not."""
        with self.changed:
            found = self.partitions[partition]
            found.truncate(min(before, found.end))
            self.changed.notify_all()

    def kill(self, member: str) -> None:
        """Removes a consumer as kill -9 would: without callbacks or commit, and it commits nothing later."""
        with self.changed:
            for group in self._groups.values():
                if member in group.members:
                    group.members[member].vanish()

    def regroup(self) -> None:
        """Makes every consumer look at its share again. The caller holds the lock."""
        self.generation += 1
        self.changed.notify_all()

    def _partitions_of(self, topic: str) -> int:
        return self._topics.get(topic) or kind_of(topic).partitions or self._default_partitions


class MemoryConsumer:
    """A member of a group of a `MemoryBus`, which creates it."""

    def __init__(
        self,
        bus: MemoryBus,
        group: _Group,
        *,
        member: str,
        wanted: Sequence[str],
        gained: PartitionsChanged | None,
        lost: PartitionsChanged | None,
    ) -> None:
        self.member = member
        self.wanted = tuple(wanted)
        self._bus = bus
        self._group = group
        self._gained = gained
        self._lost = lost
        self._changed = bus.changed
        self.owned: dict[TopicPartition, Progress] = {}  # those served longest ago come first
        self._holds = Holds(bus.clock)
        self._seen = -1
        self._woken = False
        self._closed = False

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Rebalances, then hands out records, first of the partitions that were served longest ago."""
        deadline = time.monotonic() + timeout
        while True:
            self._rebalance()
            with self._changed:
                polled = self._fetch(limit)
                left = deadline - time.monotonic()
                if polled.records or polled.gaps or self._woken or left <= 0 or self._closed:
                    self._woken = False
                    return polled
                if self._seen == self._bus.generation:
                    self._changed.wait(min([left, *self._holds.remaining()]))

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Finishes and appends in one step; positions of partitions that were lost are not finished."""
        with self._changed:
            appended = MemoryBus.append(self._bus, append)  # a subclass may count or fail the others
            for partition, offsets in by_partition(positions).items():
                progress = self.owned.get(partition)
                if progress is not None:
                    progress.finish(offsets)
                    # After a seek backwards nothing is stored until the cursor is past the stored one.
                    if progress.cursor >= self._group.commits[partition][0]:
                        self._group.commits[partition] = (progress.cursor, progress.note())
            return appended

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hands out nothing of a partition until `until` (the clock's monotonic seconds)."""
        self._holds.hold(partition, until)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hands out `offset` next; does nothing if the partition is not owned."""
        with self._changed:
            if partition in self.owned:
                self.owned[partition].seek(offset)

    def assigned(self) -> frozenset[TopicPartition]:
        """Returns the partitions that this member owns now."""
        with self._changed:
            return frozenset(self.owned)

    def wake(self) -> None:
        """Makes the poll that waits, or else the next one, return at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Gives all partitions back; `lost` may still finish work."""
        if self.owned and self._lost is not None:
            self._lost(sorted(self.owned))
        with self._changed:
            self.vanish()

    def vanish(self) -> None:
        """Leaves the group for ever, without callbacks. The caller holds the lock."""
        self._closed = True
        self._group.members.pop(self.member, None)
        self.owned.clear()
        self._bus.regroup()

    def _rebalance(self) -> None:
        """Gives up partitions beyond the share, takes those of the share without an owner. Callbacks run unlocked."""
        with self._changed:
            if self._closed or self._seen == self._bus.generation:
                return
            self._seen = self._bus.generation
            share = self._group.share_of(self, self._bus.partitions)
            leaving = sorted(self.owned.keys() - share)
        if leaving:
            if self._lost is not None:
                self._lost(leaving)
            with self._changed:
                for partition in leaving:
                    self.owned.pop(partition, None)
                self._bus.regroup()
        with self._changed:
            taken = {partition for member in self._group.members.values() for partition in member.owned}
            coming = [] if self._closed else sorted(share - taken)
            for partition in coming:
                start = self._bus.partitions[partition].start
                commit = self._group.commits.setdefault(partition, (start, ""))
                self.owned[partition] = Progress.from_note(*commit)
        if coming and self._gained is not None:
            self._gained(coming)

    def _fetch(self, limit: int) -> Polled:
        records: list[Record] = []
        gaps: list[Gap] = []
        held = self._holds.active()
        for name, progress in list(self.owned.items()):
            if len(records) == limit:
                break
            if name in held:
                continue
            partition = self._bus.partitions[name]
            if progress.position < partition.start:
                gaps.append(Gap(*name, progress.position, partition.start))
                progress.skip_to(partition.start)
            taken = progress.take(partition.read(progress.position, limit - len(records)))
            if taken:
                records.extend(taken)
                self.owned[name] = self.owned.pop(name)
        return Polled(records, gaps)

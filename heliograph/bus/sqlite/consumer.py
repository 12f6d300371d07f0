"""A member of a group: shares partitions with the other members, hands out records and commits finished ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from heliograph.bus.base import Extent, PartitionsChanged, Polled
from heliograph.bus.fairness import fair_amounts
from heliograph.bus.holds import Holds
from heliograph.bus.progress import Progress, by_partition
from heliograph.bus.sqlite import groups, rows
from heliograph.bus.sqlite.catalogue import Snapshot
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.file import BusFile
from heliograph.bus.sqlite.groups import Commit
from heliograph.bus.sqlite.ownership import Membership
from schemas.record import Gap, NewRecord, Position, Record, TopicPartition
from schemas.topics import matches

_LOOK_EVERY = 0.25
"""Seconds between two looks at the live members: how late a dead member's partitions are taken over."""


class _Owned(NamedTuple):
    """A partition of this member: the id of its row, the epoch that our commits carry, and the progress on it."""

    identity: int
    epoch: int
    progress: Progress


class SqliteConsumer:
    """A consumer of a `SqliteBus`, which creates it."""

    def __init__(
        self,
        file: BusFile,
        group: str,
        topics: Sequence[str],
        *,
        gained: PartitionsChanged | None,
        lost: PartitionsChanged | None,
    ) -> None:
        self._file = file
        self._group = group
        self._wanted = tuple(topics)
        self._gained = gained
        self._lost = lost
        self._owned: dict[TopicPartition, _Owned] = {}  # those served longest ago come first
        self._taken: set[TopicPartition] = set()  # owned by another member by now, as a commit has shown
        self._holds = Holds(file.clock)
        self._woken = False
        self._closed = False
        self._moves = -1
        self._topics: Mapping[str, tuple[int, ...]] = {}
        self._next_look = 0.0
        with translated(file.path):
            self._membership = Membership(file.locks, group, self._wanted)
        file.watch.notify(moved=True)

    @property
    def member(self) -> str:
        """Name made of the group, the time of joining, the process id and a random part."""
        return self._membership.name

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Rebalances, then hands out a fair share of each partition that has records."""
        deadline = time.monotonic() + timeout
        while not self._closed:
            seen = self._file.watch.generation
            snapshot = self._file.catalogue.refresh()
            self._rebalance(snapshot)
            polled = self._fetch(snapshot, limit)
            if polled.records or polled.gaps:
                return polled
            left = deadline - time.monotonic()
            if self._woken or left <= 0:
                break
            self._file.watch.wait(seen, min([left, _LOOK_EVERY, *self._holds.remaining()]))
        self._woken = False
        return Polled()

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Commits and appends in one transaction; if it fails, nothing is finished."""
        batch = self._file.prepare(append)
        finished: list[tuple[Progress, Sequence[int]]] = []
        commits: dict[TopicPartition, Commit] = {}
        for partition, offsets in by_partition(positions).items():
            if partition in self._owned:
                identity, epoch, progress = self._owned[partition]
                finished.append((progress, progress.finish(offsets)))
                commits[partition] = Commit(identity, epoch, progress.cursor, progress.note())
        if not commits and not append:
            return ()
        try:
            taken, appended = self._file.writer.run(
                lambda connection: (
                    groups.commit(connection, self._group, commits.values()),
                    batch.write(connection, self._file.clock.now()),
                )
            )
        except BaseException:
            for progress, closed in finished:
                progress.reopen(closed)
            raise
        if append:
            self._file.watch.notify()
        self._taken.update(each for each, one in commits.items() if one.identity in taken)
        return appended

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hands out nothing of a partition until `until` (the clock's monotonic seconds)."""
        self._holds.hold(partition, until)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hands out `offset` next; does nothing if the partition is not owned."""
        if partition in self._owned:
            self._owned[partition].progress.seek(offset)

    def assigned(self) -> frozenset[TopicPartition]:
        """Returns the partitions that this member owns now."""
        return frozenset(self._owned)

    def wake(self) -> None:
        """Makes the poll that waits, or else the next one, return at once."""
        self._woken = True
        self._file.watch.notify()

    def close(self) -> None:
        """Gives all partitions back; `lost` may still finish work."""
        if self._closed:
            return
        self._closed = True
        try:
            self._lose(sorted(self._owned))
        finally:
            with translated(self._file.path):
                self._membership.leave()
            self._file.watch.notify(moved=True)

    def _rebalance(self, snapshot: Snapshot) -> None:
        """Gives back partitions beyond our share of each topic, and takes free ones up to it."""
        moves, now = self._file.watch.moves, time.monotonic()
        unchanged = moves == self._moves and snapshot.topics is self._topics and not self._taken
        if unchanged and now < self._next_look:
            return
        self._moves, self._topics, self._next_look = moves, snapshot.topics, now + _LOOK_EVERY
        wanted = {topic: len(ids) for topic, ids in snapshot.topics.items() if matches(topic, self._wanted)}
        with translated(self._file.path):
            shares = self._membership.shares(wanted)
        self._lose(self._find_leaving(shares))
        with translated(self._file.path):
            coming = self._take_free(wanted, shares)
        self._own(coming, snapshot)

    def _find_leaving(self, shares: Mapping[str, int]) -> Sequence[TopicPartition]:
        """Lists partitions of ours that another member has taken or that exceed our share."""
        leaving = sorted(self._taken & self._owned.keys())
        room = dict(shares)
        for partition in sorted(self._owned.keys() - self._taken):
            room[partition.topic] = room.get(partition.topic, 0) - 1
            if room[partition.topic] < 0:
                leaving.append(partition)
        self._taken.clear()
        return leaving

    def _take_free(self, wanted: Mapping[str, int], shares: Mapping[str, int]) -> Sequence[TopicPartition]:
        """Locks free partitions for us, up to our share of each topic."""
        coming: list[TopicPartition] = []
        for topic, partitions in wanted.items():
            every = [TopicPartition(topic, number) for number in range(partitions)]
            others = [partition for partition in every if partition not in self._owned]
            room = shares.get(topic, 0) - (partitions - len(others))
            for partition in others:
                if room <= 0:
                    break
                if self._membership.take(partition):
                    room -= 1
                    coming.append(partition)
        return coming

    def _own(self, coming: Sequence[TopicPartition], snapshot: Snapshot) -> None:
        if not coming:
            return
        identities = {
            partition: snapshot.topics[partition.topic][partition.partition] for partition in coming
        }
        try:
            claims = self._file.writer.run(
                lambda connection: groups.claim(connection, self._group, identities.values())
            )
        except BaseException:
            for partition in coming:
                self._membership.give(partition)
            raise
        for partition, identity in identities.items():
            cursor, note, epoch = claims[identity]
            self._owned[partition] = _Owned(identity, epoch, Progress.from_note(cursor, note))
        if self._gained is not None:
            self._gained(coming)

    def _lose(self, leaving: Sequence[TopicPartition]) -> None:
        if not leaving:
            return
        try:
            if self._lost is not None:
                self._lost(leaving)
        finally:
            for partition in leaving:
                del self._owned[partition]
                self._membership.give(partition)
            self._file.watch.notify(moved=True)

    def _fetch(self, snapshot: Snapshot, limit: int) -> Polled:
        held = self._holds.active()
        behind = {
            partition: snapshot.extents[owned.identity].end - owned.progress.position
            for partition, owned in self._owned.items()
            if snapshot.extents[owned.identity].end > owned.progress.position and partition not in held
        }
        if not behind:
            return Polled()
        records: list[Record] = []
        gaps: list[Gap] = []
        room = rows.BATCH_BYTES
        with self._file.readers.lend() as connection:
            for partition, amount in fair_amounts(behind, limit).items():
                identity, _, progress = owned = self._owned[partition]
                span = Extent(progress.position, snapshot.extents[identity].end)
                found = rows.read(connection, partition, identity, span=span, limit=amount)
                if found.gap is not None:
                    gaps.append(found.gap)
                    progress.skip_to(found.gap.end)
                records.extend(progress.take(found.records))
                del self._owned[partition]
                self._owned[partition] = owned
                room -= found.size
                if room <= 0:
                    break
        return Polled(records, gaps)

"""A member of a group on Kafka: hands out the records that a client fetched, and commits finished ones.

The client library assigns partitions; it calls `_gain` and `_lose` while it polls. A gained partition is read once our own
cursor of it is known. Each gain makes a new `_Owned`, which is the epoch of our commits: records handed out before a loss
cannot be committed after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from heliograph.bus.base import Extent, PartitionsChanged, Polled
from heliograph.bus.fairness import fair_amounts
from heliograph.bus.holds import Holds
from heliograph.bus.kafka.client import Commit, Connection, Fenced, Fetched, GroupClient, PartitionsMoved
from heliograph.bus.progress import Progress, by_partition
from schemas.clock import Clock
from schemas.record import Gap, NewRecord, Position, Record, TopicPartition

log = structlog.get_logger()

_SLICE = 0.02
"""Seconds of one wait in the client, which is how late `wake` and the end of a hold are noticed."""
_FETCH = 5000
"""Records that wait to be handed out, at most; the client is asked for the rest."""
_KEPT_HELD = 1000
"""Fetched records of a held partition after which the client pauses it."""
_LOOK_EVERY = 0.2
"""Seconds after which the client is polled even if enough records wait, and holes are committed."""

Append = Callable[[Sequence[NewRecord]], Sequence[Position]]
Join = Callable[[PartitionsMoved, PartitionsMoved], GroupClient]
"""Makes the client's member of the group, which calls the two functions with gained and lost partitions."""


class _Owned:
    """A partition of this member: records fetched and not handed out yet, the progress, and the last commit."""

    __slots__ = ("committed", "fetched", "progress", "reads_on")

    def __init__(self, commit: Commit, *, stored: bool) -> None:
        self.progress = Progress.from_note(*commit)
        self.committed: Commit | None = commit if stored else None
        self.fetched: list[Record] = []
        self.reads_on = 0  # the client's next offset, if it has stepped over offsets without records

    def take(self, amount: int) -> Sequence[Record]:
        """Takes `amount` of the fetched records; returns those that were not finished before a restart."""
        records = self.progress.take(self.fetched[:amount])
        self.fetched = self.fetched[amount:]
        self.pass_holes()
        return records

    def pass_holes(self) -> None:
        """Moves the position to that of the client, once every fetched record is handed out."""
        if not self.fetched and self.reads_on > self.progress.position:
            self.progress.skip_to(self.reads_on)

    def next_commit(self) -> Commit | None:
        """Builds the commit to store; None if it is the last one or would go backwards."""
        commit = Commit(self.progress.cursor, self.progress.note())
        if self.committed is not None and (commit == self.committed or commit.offset < self.committed.offset):
            return None
        return commit


class KafkaConsumer:
    """A consumer of a `KafkaBus`, which creates it."""

    def __init__(
        self,
        connection: Connection,
        *,
        append: Append,
        clock: Clock,
        join: Join,
        name: str,
        gained: PartitionsChanged | None,
        lost: PartitionsChanged | None,
    ) -> None:
        self._connection = connection
        self._append = append
        self._name = name
        self._gained = gained
        self._lost = lost
        self._owned: dict[TopicPartition, _Owned] = {}  # those served longest ago come first
        self._coming: list[TopicPartition] = []
        self._holds = Holds(clock)
        self._paused: set[TopicPartition] = set()
        self._out_of_range: set[TopicPartition] = set()
        self._failure: BaseException | None = None
        self._next_look = 0.0
        self._woken = False
        self._closed = False
        self._client = join(self._gain, self._lose)

    @property
    def member(self) -> str:
        """The client id, made of the group, the host, the process id and a random part."""
        return self._name

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Hands out fair shares of the fetched records. Polls the client in slices, so that `wake` is noticed."""
        deadline = time.monotonic() + timeout
        wait = 0.0
        while not self._closed:
            self._fetch(wait)
            polled = self._hand_out(limit)
            left = deadline - time.monotonic()
            if polled.records or polled.gaps or self._woken or left <= 0:
                self._woken = False
                return polled
            wait = max(0.0, min([left, _SLICE, *self._holds.remaining()]))
        return Polled()

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Appends, then commits. Positions of lost partitions are not committed, nor commits that come too late."""
        appended = self._append(append) if append else ()
        finished: list[tuple[_Owned, Sequence[int]]] = []
        for partition, offsets in by_partition(positions).items():
            if partition in self._owned:
                owned = self._owned[partition]
                finished.append((owned, owned.progress.finish(offsets)))
        try:
            self._commit()
        except BaseException:
            for owned, closed in finished:
                owned.progress.reopen(closed)
            raise
        return appended

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hands out nothing of a partition until `until` (the clock's monotonic seconds)."""
        self._holds.hold(partition, until)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hands out `offset` next; does nothing if the partition is not owned."""
        owned = self._owned.get(partition)
        if owned is not None:
            owned.progress.seek(offset)
            self._read_on(partition, owned)

    def assigned(self) -> frozenset[TopicPartition]:
        """Returns the partitions that this member owns now."""
        return frozenset(self._owned)

    def wake(self) -> None:
        """Makes the poll that waits, or else the next one, return at once."""
        self._woken = True

    def close(self) -> None:
        """Gives all partitions back; `lost` may still finish work."""
        if self._closed:
            return
        self._closed = True
        try:
            self._lose(sorted(self._owned))
            self._raise_failure()
        finally:
            self._client.close()

    def _fetch(self, wait: float) -> None:
        """Polls the client, which fetches and rebalances, unless enough records wait and it was polled a moment ago."""
        now = time.monotonic()
        ready = sum(self._ready().values())
        if ready < _FETCH or now >= self._next_look:
            self._pause_and_resume()
            fetched = self._client.poll(max(_FETCH - ready, 1), 0.0 if ready or self._coming else wait)
            self._raise_failure()
            self._own()
            self._keep(fetched)
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            self._commit()

    def _keep(self, fetched: Fetched) -> None:
        for partition, records in fetched.records.items():
            owned = self._owned.get(partition)
            if owned is not None:
                owned.fetched = [*owned.fetched, *records] if owned.fetched else records
        for partition, position in fetched.positions.items():
            owned = self._owned.get(partition)
            if owned is not None:
                owned.reads_on = position
                owned.pass_holes()
        self._out_of_range |= fetched.out_of_range & self._owned.keys()

    def _hand_out(self, limit: int) -> Polled:
        gaps = self._gaps() if self._out_of_range else ()
        ready = self._ready()
        records: list[Record] = []
        if ready:
            for partition, amount in fair_amounts(ready, limit).items():
                owned = self._owned.pop(partition)
                self._owned[partition] = owned
                records.extend(owned.take(amount))
        return Polled(records, gaps)

    def _ready(self) -> dict[TopicPartition, int]:
        """Counts the records of each partition that may be handed out."""
        held = self._holds.active()
        return {
            partition: len(owned.fetched)
            for partition, owned in self._owned.items()
            if owned.fetched and partition not in held
        }

    def _gaps(self) -> Sequence[Gap]:
        """Reads on at the first record that is left, once the records fetched before are handed out; returns the gaps."""
        empty = [each for each in self._out_of_range if not self._owned[each].fetched]
        gaps: list[Gap] = []
        for partition, extent in self._connection.extents(empty).items():
            owned = self._owned[partition]
            position = owned.progress.position
            if position < extent.start:
                gaps.append(Gap(*partition, position, extent.start))
                owned.progress.skip_to(extent.start)
            elif position > extent.end:
                owned = self._restart(partition, extent)
            self._read_on(partition, owned)
        return gaps

    def _restart(self, partition: TopicPartition, extent: Extent) -> _Owned:
        """Reads a partition from its start, since it ends before our position: the topic was deleted and created again."""
        log.error(
            "the topic was deleted and created again; it is read from its start",
            partition=str(partition),
            **extent._asdict(),
        )
        self._owned[partition] = _Owned(Commit(extent.start, ""), stored=False)
        return self._owned[partition]

    def _read_on(self, partition: TopicPartition, owned: _Owned) -> None:
        owned.fetched = []
        owned.reads_on = 0
        self._out_of_range.discard(partition)
        if partition not in self._coming:
            self._client.seek(partition, owned.progress.position)

    def _pause_and_resume(self) -> None:
        """Pauses held partitions that have enough fetched records, and resumes all others."""
        wanted = {
            partition
            for partition in self._holds.active() & self._owned.keys()
            if len(self._owned[partition].fetched) >= _KEPT_HELD
        }
        if wanted != self._paused:
            self._client.resume(sorted(self._paused - wanted))
            self._client.pause(sorted(wanted - self._paused))
            self._paused = wanted

    def _gain(self, partitions: Sequence[TopicPartition]) -> None:
        self._coming = list(partitions)

    def _own(self) -> None:
        """Starts reading the gained partitions. If their cursors cannot be read now, the next poll tries again."""
        if not self._coming:
            return
        commits = self._client.committed(self._coming)
        starts = self._connection.extents([each for each in self._coming if each not in commits])
        owned = {partition: _Owned(commit, stored=True) for partition, commit in commits.items()}
        owned |= {each: _Owned(Commit(extent.start, ""), stored=False) for each, extent in starts.items()}
        self._client.start({each: one.progress.position for each, one in owned.items()})
        self._coming = []
        self._owned = owned
        self._paused = set()
        self._commit()
        if self._gained is not None and owned:
            self._gained(sorted(owned))

    def _lose(self, partitions: Sequence[TopicPartition]) -> None:
        """Gives partitions up. The library, which calls this, drops exceptions, so the poll around it raises them."""
        leaving = [partition for partition in partitions if partition in self._owned]
        self._coming = []
        try:
            if leaving and self._lost is not None:
                self._lost(leaving)
        except BaseException as error:  # noqa: BLE001
            self._failure = error
        finally:
            for partition in leaving:
                del self._owned[partition]
                self._out_of_range.discard(partition)
                self._paused.discard(partition)

    def _commit(self) -> None:
        """Stores every cursor that moved. A commit that comes too late is no error: the next owner repeats the work."""
        commits = {
            partition: commit
            for partition, owned in self._owned.items()
            if (commit := owned.next_commit()) is not None
        }
        if not commits:
            return
        try:
            self._client.commit(commits)
        except Fenced as error:
            log.info("commit refused, the partition has another owner", member=self._name, reason=str(error))
            return
        for partition, commit in commits.items():
            self._owned[partition].committed = commit

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

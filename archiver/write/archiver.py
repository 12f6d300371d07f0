"""The archiver role: writes the records of topics into segments, each record once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import structlog

from archiver.format.naming import segment_key
from archiver.format.segment import Span
from archiver.write.buffer import Buffer
from archiver.write.chain import Lost, Stored, Tail, append_segment, check_bus, find_tail
from archiver.write.policy import ArchivePolicy, due_at, is_due
from heliograph.bus.base import Bus, Consumer, Polled
from heliograph.store.base import ObjectStore
from schemas import metrics, topics
from schemas.clock import Clock
from schemas.errors import HeliographError, StoreUnavailable
from schemas.record import Position, Record, TopicPartition
from schemas.role import ConsumerRole

log = structlog.get_logger()

MEMORY_LIMIT = 64 * 2**20
"""Maximum bytes of records in all buffers together; one poll may exceed it."""
POLL_LIMIT = 2000
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds to wait after the first, second … consecutive failure of the store."""

HOLD_SECONDS = 60.0
"""Seconds for which a partition is held; renewed at each step for as long as needed."""


class Archiver(ConsumerRole[Consumer]):
    """Archives every topic in `schemas.topics.ARCHIVED`: appends segments to the chain of each partition.

    The chain says where to resume; the committed cursor is only a hint. Records are committed after they are stored, so
    a crash, a revoked partition or a lost race repeats reads and never archives a record twice. `holes_legal`: topics,
    by name or pattern, in which missing offsets are no loss, since other producers write to them in transactions.
    """

    def __init__(
        self,
        bus: Bus,
        store: ObjectStore,
        policy: ArchivePolicy,
        clock: Clock,
        *,
        holes_legal: Sequence[str] = (),
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self._bus = bus
        self._store = store
        self._policy = policy
        self._clock = clock
        self._holes_legal = tuple(holes_legal)
        self._memory_limit = memory_limit
        self._new: set[TopicPartition] = set()  # assigned, with their tails not read yet
        self._buffers: dict[TopicPartition, Buffer] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._flush = False
        self._storing = False
        self._held = False
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._lost)

    @property
    def name(self) -> str:
        """Name of the role and of its consumer group."""
        return "archiver"

    @property
    def topics(self) -> tuple[str, ...]:
        """Names and patterns of the archived topics."""
        return topics.ARCHIVED

    def step(self, timeout: float) -> None:
        """Reads records, buffers them, stores the segments that are due, and commits. Raises ArchiveBroken, StoreRefused,
        BusError."""
        self._find_tails()
        if self._size() > self._memory_limit:
            self._store_due()  # before anything more is read: else each try of a store that is down reads more
        self._buffer(self._consumer.poll(POLL_LIMIT, self._poll_timeout(timeout)))
        self._store_due()

    def busy(self) -> bool:
        """Returns True while a segment is being stored, or is due after `flush`, or the end of a chain is not known."""
        return self._storing or bool(self._new) or (self._flush and self._waits())

    def flush(self) -> None:
        """Closes all segments at the next step, however small."""
        self._flush = True
        self._consumer.wake()

    def close(self) -> None:
        """Stores the buffered records if the store accepts them, and closes the consumer; others are read again later."""
        try:
            self._flush = True
            self._store_due()
        except HeliographError as error:
            log.warning("buffered records not stored, the next archiver reads them again", error=str(error))
        finally:
            self._consumer.close()

    # Partitions are assigned and revoked.

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        self._new.update(partitions)

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._new.discard(partition)
            self._buffers.pop(partition, None)

    def _find_tails(self) -> None:
        """Resumes where the chains end. Until the tail is known, no record of the partition is read."""
        if not self._new or self._clock.monotonic() < self._retry_at:
            return
        cursors = self._bus.lag(self.name)
        try:
            for partition in sorted(self._new):
                lag = cursors.get(partition)
                self._resume(partition, lag.cursor if lag else 0)
                self._new.discard(partition)
        except StoreUnavailable as error:
            self._store_failed(error)

    def _resume(self, partition: TopicPartition, cursor: int) -> None:
        likely = max(0, cursor - self._policy.max_records)
        hint = segment_key(*partition, likely) if likely else ""
        tail = find_tail(self._store, *partition, hint=hint) or Tail(self._bus.log_id, *partition)
        check_bus(self._bus, tail)
        self._buffers[partition] = Buffer(
            tail, holes_legal=topics.matches(partition.topic, self._holes_legal)
        )
        self._consumer.seek(partition, tail.expected_offset)
        self._consumer.hold(partition, None)
        if tail.expected_offset > cursor:  # stored before a crash, and not committed
            self._commit(tail)

    # Records are buffered until their segment is due.

    def _buffer(self, polled: Polled) -> None:
        now = self._clock.monotonic()
        for gap in polled.gaps:
            buffer = self._buffers.get(TopicPartition(gap.topic, gap.partition))
            if buffer is not None:
                self._report(buffer, [found for found in (buffer.skip(gap.end, now),) if found])
        for (topic, number), records in groupby(polled.records, _partition):
            buffer = self._buffers.get(TopicPartition(topic, number))
            if buffer is not None:
                archived, gaps = buffer.add(records, now)
                self._report(buffer, gaps)
                if archived:
                    self._commit(buffer.tail, archived)

    def _report(self, buffer: Buffer, gaps: Iterable[Span]) -> None:
        for start, end in gaps:
            partition = buffer.tail.topic_partition
            metrics.GAPS.labels(self.name, partition.topic).inc(end - start)
            log.error(
                "gap in the topic, recorded in the archive", partition=str(partition), start=start, end=end
            )

    def _poll_timeout(self, timeout: float) -> float:
        """Returns the seconds to wait for records: until the next segment is due or the store is tried again, at most
        `timeout`."""
        now = self._clock.monotonic()
        waiting = [buffer.waiting for buffer in self._buffers.values()]
        times = [due_at(self._policy, each) for each in waiting if each]
        if self._flush and times:
            times = [now]
        if self._new:
            times.append(now)
        if self._retry_at > now:
            times = [max(self._retry_at, each) for each in times]
        return max(0.0, min([timeout, *(each - now for each in times)]))

    # Segments are stored.

    def _store_due(self) -> None:
        now = self._clock.monotonic()
        if now >= self._retry_at:
            self._storing = True
            try:
                for buffer in list(self._due(now)):
                    self._store_one(buffer, now)
                self._flush = self._flush and self._waits()
            except StoreUnavailable as error:
                self._store_failed(error)
            finally:
                self._storing = False
        self._hold_back()

    def _due(self, now: float) -> Iterator[Buffer]:
        """Yields the buffers to store now: those due by the policy, and the largest while memory is exceeded."""
        spare = self._memory_limit - self._size()
        for buffer in sorted(self._buffers.values(), key=_size, reverse=True):
            waiting = buffer.waiting
            if waiting and (self._flush or spare < 0 or is_due(self._policy, waiting, now)):
                spare += buffer.size
                yield buffer

    def _store_one(self, buffer: Buffer, now: float) -> None:
        """Stores the due segments of a buffer; the records left wait until the next segment is due."""
        partition = buffer.tail.topic_partition
        waiting = buffer.waiting
        while waiting:
            draft = buffer.build_draft(self._policy)
            match append_segment(self._store, buffer.tail, draft):
                case Stored(tail):
                    self._commit(tail, buffer.rebase(tail))
                    self._count(tail, len(draft.records))
                case Lost(tail):
                    log.warning(
                        "another archiver stored the segment first",
                        partition=str(partition),
                        at=tail.expected_offset,
                    )
                    check_bus(self._bus, tail)
                    if tail.epoch != buffer.tail.epoch:
                        self._buffers.pop(partition, None)
                        self._new.add(partition)
                        return
                    self._commit(tail, buffer.rebase(tail))
            self._failures = 0
            left = buffer.waiting
            waiting = left if left and (self._flush or is_due(self._policy, left, now)) else None

    def _count(self, tail: Tail, records: int) -> None:
        metrics.SEGMENTS.labels(tail.topic).inc()
        metrics.ARCHIVED.labels(tail.topic).inc(records)
        log.info("segment stored", key=tail.key, records=records)

    def _commit(self, tail: Tail, records: Sequence[Record] = ()) -> None:
        """Commits archived records. Without records (gaps, or stored before a crash) it commits the offset before the
        tail's, which moves the cursor to the tail."""
        last = Position(tail.topic, tail.partition, tail.expected_offset - 1)
        self._consumer.done([record.position for record in records] or [last])

    def _store_failed(self, error: StoreUnavailable) -> None:
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._retry_at = self._clock.monotonic() + pause
        log.error("store unavailable, records wait", error=str(error), retry_in=pause, bytes=self._size())

    def _hold_back(self) -> None:
        """Pauses partitions whose tail is not known and, while the store fails and memory is full, all partitions."""
        until = self._clock.monotonic() + HOLD_SECONDS
        for partition in self._new:
            self._consumer.hold(partition, until)
        full = self._failures > 0 and self._size() > self._memory_limit
        if full or self._held:
            for partition in self._buffers:
                self._consumer.hold(partition, until if full else None)
        self._held = full

    def _size(self) -> int:
        return sum(map(_size, list(self._buffers.values())))

    def _waits(self) -> bool:
        return any(buffer.waiting for buffer in list(self._buffers.values()))


_partition = attrgetter("topic", "partition")


def _size(buffer: Buffer) -> int:
    return buffer.size

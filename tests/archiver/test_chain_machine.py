"""The archive under any interleaving of writers that race, crash, repeat, lose partitions and lose answers."""

from __future__ import annotations

from contextlib import suppress
from typing import cast
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from archiver.read.reader import list_segments, read_records
from archiver.read.verify import verify
from archiver.write.archiver import Archiver
from archiver.write.policy import ArchivePolicy
from heliograph.bus.base import Bus, Consumer, PartitionsChanged
from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.record import NewRecord, Record, TopicPartition
from tests.archiver.making import TOPIC
from tests.archiver.stores import Crash, FaultyStore

WRITERS = 3
WRITER = st.integers(0, WRITERS - 1)
POLICY = ArchivePolicy(max_bytes=400, max_records=4, max_age=10, max_idle=5)
PARTITIONS = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]


class GroupBus:
    """A bus on which each archiver has a group of its own, so that all of them own every partition."""

    def __init__(self, bus: MemoryBus, group: str) -> None:
        self.bus = bus
        self.group = group
        self.log_id, self.extents, self.read = bus.log_id, bus.extents, bus.read
        self.member = ""

    def consumer(
        self,
        topics: tuple[str, ...],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> Consumer:
        assert group == "archiver"
        consumer = self.bus.consumer((TOPIC,), self.group, gained=gained, lost=lost)
        self.member = consumer.member
        return consumer

    def lag(self, group: str) -> object:
        assert group == "archiver"
        return self.bus.lag(self.group)


class ArchiveMachine(RuleBasedStateMachine):
    """Writers 0 and 1 share a group and its partitions; writer 2 is in another group with the same partitions."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock, partitions=2)
        self.bus.create(TOPIC)
        self.kept = MemoryStore()
        self.stores = [FaultyStore(self.kept) for _ in range(WRITERS)]
        self.buses = [GroupBus(self.bus, "shared" if writer < 2 else "alone") for writer in range(WRITERS)]
        self.writers: list[Archiver | None] = [None] * WRITERS
        self.log: dict[TopicPartition, list[Record]] = {partition: [] for partition in PARTITIONS}
        self.truncated = False
        self.all_read()

    @rule(partition=st.sampled_from([0, 1]), count=st.integers(1, 6))
    def append(self, partition: int, count: int) -> None:
        self.clock.advance(0.01)
        self.bus.append([NewRecord(TOPIC, b"v%d" % number, partition=partition) for number in range(count)])

    @rule()
    def all_read(self) -> None:
        for writer in range(WRITERS):
            self._run(writer, flush=False)

    @rule(writer=WRITER)
    def read(self, writer: int) -> None:
        self._run(writer, flush=False)

    @rule(writer=WRITER)
    def store(self, writer: int) -> None:
        self._run(writer, flush=True)

    @rule(partition=st.sampled_from([0, 1]), count=st.integers(1, 3), order=st.permutations(range(WRITERS)))
    def race(self, partition: int, count: int, order: list[int]) -> None:
        """Lets each writer read what the one before it stored meanwhile, and more."""
        for writer in order:
            self.append(partition, count)
            self._run(writer, flush=True)

    @rule(partition=st.sampled_from([0, 1]), count=st.integers(1, 3), order=st.permutations(range(WRITERS)))
    def outrun(self, partition: int, count: int, order: list[int]) -> None:
        """Lets a writer store less than the others have stored meanwhile, after it lost its partitions unknowingly."""
        for writer in order:
            self.append(partition, count)
            self._run(writer, flush=writer != order[0])
        self.end(order[0], "stale")

    @rule(seconds=st.sampled_from([0.5, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Advances the time, and brings failed stores up again."""
        self.clock.advance(seconds)
        for store in self.stores:
            store.down = False

    @rule(writer=WRITER, how=st.sampled_from(["down", "fail_before", "fail_after", "crash_after"]))
    def go_wrong(self, writer: int, how: str) -> None:
        setattr(self.stores[writer], how, True)

    @rule(writer=WRITER, how=st.sampled_from(["crash", "stale", "close"]))
    def end(self, writer: int, how: str) -> None:
        """Kills a member, closes it, or revokes its partitions without its knowledge, after which it still stores."""
        archiver = self.writers[writer]
        self.writers[writer] = None
        if how == "stale":
            self.bus.kill(self.buses[writer].member)
        if how != "crash" and archiver is not None:
            with suppress(Crash):
                archiver.close()
        self.bus.kill(self.buses[writer].member)

    @precondition(lambda self: not self.truncated)
    @rule(partition=st.sampled_from(PARTITIONS), keep=st.integers(0, 3))
    def truncate(self, partition: TopicPartition, keep: int) -> None:
        """Removes records from the bus, archived or not."""
        self._remember()
        self.truncated = True
        self.bus.truncate(partition, max(0, self.bus.extents(TOPIC)[partition].end - keep))

    @invariant()
    def each_record_is_archived_once_in_order(self) -> None:
        report = verify(self.kept)
        assert report.sound, report.line()
        self._remember()
        for partition, records in self.log.items():
            found = [record for record in read_records(self.kept) if record.partition == partition.partition]
            gaps = self._gaps(partition)
            expected = [record for record in records if not any(a <= record.offset < b for a, b in gaps)]
            assert found == expected[: len(found)]
            assert self.truncated or not gaps

    def teardown(self) -> None:
        """Checks that every record on the bus is archived once all works again."""
        for store in self.stores:
            store.down = False
            store.fail_before = store.fail_after = store.crash_after = False
        self.clock.advance(60)
        for writer in range(WRITERS):
            self.end(writer, "crash")
        for _ in range(4):
            self._run(2, flush=True, limit=2000)
        self.each_record_is_archived_once_in_order()
        archived = {record.position for record in read_records(self.kept)}
        for partition in PARTITIONS:
            assert {record.position for record in self.bus.read(partition, 0).records} <= archived
            lag = self.bus.lag("alone")[partition]
            assert lag.cursor == lag.end

    def _run(self, writer: int, *, flush: bool, limit: int = 4) -> None:
        archiver = self.writers[writer]
        if archiver is None:
            bus = cast("Bus", self.buses[writer])
            archiver = self.writers[writer] = Archiver(bus, self.stores[writer], POLICY, self.clock)
            archiver.step(0)
        if flush:
            archiver.flush()
        try:
            with patch("archiver.write.archiver.POLL_LIMIT", limit):
                archiver.step(0)
        except Crash:
            self.end(writer, "crash")

    def _remember(self) -> None:
        for partition, records in self.log.items():
            have = records[-1].offset + 1 if records else 0
            records.extend(self.bus.read(partition, have).records)

    def _gaps(self, partition: TopicPartition) -> list[tuple[int, int]]:
        return [
            gap
            for info in list_segments(self.kept, TOPIC)
            if info.partition == partition.partition
            for gap in info.read_header().gaps
        ]


TestArchiveMachine = ArchiveMachine.TestCase
TestArchiveMachine.settings = settings(max_examples=100, stateful_step_count=30)

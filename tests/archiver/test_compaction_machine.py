"""The archive under any interleaving of writers, late records, compaction, removal, retention, erasure and kills."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from archiver.format.manifest import DAY, file_made
from archiver.format.segment import Draft, is_erased
from archiver.maintain.erasure import erase
from archiver.maintain.removal import ORPHAN_AGE
from archiver.maintain.retention import retire
from archiver.read.reader import list_segments, read_records
from archiver.read.verify import find_heads, find_manifest_heads, verify
from archiver.write.chain import Stored, Tail, append_segment, find_tail
from heliograph.store.base import ObjectStore
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.record import Record
from tests.archiver.compacting import START, add, clean, dying, keys, run
from tests.archiver.making import LOG, TOPIC, record
from tests.archiver.stores import Crash

PARTITIONS: tuple[int, ...] = (0, 1)


class CompactionMachine(RuleBasedStateMachine):
    """The model: a list of records per partition, the number of its first that are retired, and the erased offsets."""

    @initialize()
    def begin(self) -> None:
        self.store = MemoryStore()
        self.day = 0.0
        self.log: dict[int, list[Record]] = {partition: [] for partition in PARTITIONS}
        self.retired = dict.fromkeys(PARTITIONS, 0)
        self.erased: set[tuple[int, int]] = set()
        self.asleep: dict[int, Tail] = {}
        self.noted: dict[str, str] = {}

    @rule(
        partition=st.sampled_from(PARTITIONS),
        ages=st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 2.5]), min_size=1, max_size=3),
    )
    def write(self, partition: int, ages: list[float]) -> None:
        """Adds current and late records."""
        self.day += 0.001
        times = [round((self.day - age) * DAY) for age in ages]
        start = len(self.log[partition])
        add(self.store, *times, partition=partition)
        self.log[partition] += [
            record(start + index, partition=partition, timestamp=START + time)
            for index, time in enumerate(times)
        ]

    @rule(partition=st.sampled_from(PARTITIONS))
    def fall_asleep(self, partition: int) -> None:
        self.asleep[partition] = find_tail(self.store, TOPIC, partition) or Tail(LOG, TOPIC, partition)

    @rule(partition=st.sampled_from(PARTITIONS), ages=st.lists(st.just(0.0), min_size=1, max_size=3))
    def oversleep(self, partition: int, ages: list[float]) -> None:
        """Compacts and removes what took a sleeping writer's place, so that its key is free again."""
        self.fall_asleep(partition)
        self.write(partition, ages)
        self.write(partition, ages)
        self.day += 2
        run(self.store, self.day)
        clean(self.store, self.day)

    @rule(partition=st.sampled_from(PARTITIONS), count=st.integers(1, 3))
    def wake_up(self, partition: int, count: int) -> None:
        """Wakes a writer, which stores from the tail that it knew until it sees that it lost."""
        tail = self.asleep.pop(partition, None)
        if tail is None:
            return
        for at in range(tail.expected_offset, tail.expected_offset + count):
            archived = at < len(self.log[partition])
            new = record(at, partition=partition, timestamp=START + round(self.day * DAY))
            draft = Draft([self.log[partition][at] if archived else new], at + 1)
            outcome = append_segment(self.store, tail, draft)
            if not isinstance(outcome, Stored):
                assert archived
                return
            if not archived:
                self.log[partition].append(new)
            tail = outcome.tail

    @rule(days=st.sampled_from([0.3, 1.0, 1.4]))
    def wait(self, days: float) -> None:
        self.day += days

    @rule(kill=st.none() | st.integers(0, 40), after=st.booleans())
    def compact(self, kill: int | None, *, after: bool) -> None:
        with suppress(Crash):
            run(self._mortal(kill, after=after), self.day)

    @rule(kill=st.none() | st.integers(0, 20), after=st.booleans(), grace=st.sampled_from([0, DAY]))
    def remove(self, kill: int | None, grace: int, *, after: bool) -> None:
        with suppress(Crash):
            clean(self._mortal(kill, after=after), self.day, grace)

    @rule(kill=st.none() | st.integers(0, 20), after=st.booleans(), days=st.sampled_from([1.0, 3.0]))
    def retire(self, kill: int | None, days: float, *, after: bool) -> None:
        before = START + round((self.day - days) * DAY)
        with suppress(Crash):
            retire(self._mortal(kill, after=after), self._clock(), TOPIC, before)
        for partition in PARTITIONS:
            left = next((each.offset for each in self._found(partition)), len(self.log[partition]))
            assert left >= self.retired[partition]
            assert all(
                each.timestamp < before for each in self.log[partition][self.retired[partition] : left]
            )
            self.retired[partition] = left

    @rule(kill=st.none() | st.integers(0, 30), after=st.booleans(), modulo=st.integers(2, 4))
    def erase(self, kill: int | None, modulo: int, *, after: bool) -> None:
        def wanted(one: Record) -> bool:
            return one.offset % modulo == 0

        with suppress(Crash):
            erase(self._mortal(kill, after=after), self._clock(), TOPIC, wanted, reason="asked for")
        now = {(each.partition, each.offset) for each in read_records(self.store) if is_erased(each)}
        assert all(offset % modulo == 0 for _, offset in now - self.erased)
        assert {each for each in self.erased if each[1] >= self.retired[each[0]]} <= now
        self.erased |= now

    @rule()
    def note_heads(self) -> None:
        self.noted = dict(find_manifest_heads(self.store))
        self.noted |= {head.key: head.object_sha256 for head in find_heads(self.store)}

    @invariant()
    def every_record_is_there_once(self) -> None:
        for partition in PARTITIONS:
            found = self._found(partition)
            expected = self.log[partition][self.retired[partition] :]
            assert [(one.offset, one.timestamp) for one in found] == [
                (one.offset, one.timestamp) for one in expected
            ]
            for one, two in zip(found, expected, strict=True):
                assert is_erased(one) if (partition, one.offset) in self.erased else one == two

    @invariant()
    def it_verifies(self) -> None:
        report = verify(self.store, expect_head=self.noted)
        assert report.sound, report.line()

    def teardown(self) -> None:
        """Removes what killed runs left."""
        run(self.store, self.day + 3)
        clean(self.store, self.day + 3 + ORPHAN_AGE / DAY)
        self.every_record_is_there_once()
        self.it_verifies()
        named = {info.file.key for info in list_segments(self.store) if info.file}
        assert {key for key in keys(self.store, "compacted/") if file_made(key)} == named
        assert len(keys(self.store, "topics/")) == sum(map(bool, self.log.values()))

    def _found(self, partition: int) -> list[Record]:
        return [each for each in read_records(self.store) if each.partition == partition]

    def _clock(self) -> ManualClock:
        return ManualClock(START + round(self.day * DAY))

    def _mortal(self, kill: int | None, *, after: bool) -> ObjectStore:
        return self.store if kill is None else dying(self.store, kill, after=after)


TestCompactionMachine = CompactionMachine.TestCase
TestCompactionMachine.settings = settings(max_examples=60, stateful_step_count=25)

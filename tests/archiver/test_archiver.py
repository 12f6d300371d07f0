"""The archiver role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from archiver.read.reader import list_segments, read_records
from archiver.read.verify import verify
from archiver.write.archiver import RETRY_SECONDS, Archiver
from archiver.write.policy import ArchivePolicy
from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.errors import ArchiveBroken, StoreRefused
from schemas.record import NewRecord, TopicPartition
from schemas.role import Role
from tests.archiver.making import TOPIC
from tests.archiver.stores import Crash, FaultyStore

POLICY = ArchivePolicy(max_bytes=10_000, max_records=100, max_age=60, max_idle=5)
PARTITION = TopicPartition(TOPIC, 0)


class Rig:
    """A bus, a store and archivers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock, partitions=1)
        self.store = FaultyStore(MemoryStore())
        self.opened: list[Archiver] = []

    def archiver(self, policy: ArchivePolicy = POLICY, memory_limit: int = 2**20) -> Archiver:
        """Starts an archiver that knows its partitions' tails."""
        archiver = Archiver(self.bus, self.store, policy, self.clock, memory_limit=memory_limit)
        self.opened.append(archiver)
        archiver.step(0)
        archiver.step(0)
        return archiver

    def append(self, count: int, *, topic: str = TOPIC, size: int = 10) -> None:
        self.bus.append([NewRecord(topic, b"%010d" % number + bytes(size - 10)) for number in range(count)])

    def counts(self, topic: str = TOPIC) -> list[int]:
        """Counts the records in each segment."""
        return [info.read_header().count for info in list_segments(self.store.behind, topic)]

    def kill(self) -> None:
        """Revokes the members' partitions without their knowledge."""
        for member in self.bus.members("archiver"):
            self.bus.kill(member)

    def cursor(self) -> int:
        lag = self.bus.lag("archiver").get(PARTITION)
        return lag.cursor if lag else 0


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.bus.create(TOPIC)
    yield rig
    rig.store.down = False
    for archiver in rig.opened:
        archiver.close()


def _counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"heliograph_{name}_total", labels) or 0.0


def test_the_archiver_is_a_role(rig: Rig) -> None:
    role: Role = rig.archiver()
    assert role.name == "archiver"
    assert "events.*" in role.topics
    assert not role.busy()


def test_a_segment_is_stored_after_the_idle_time(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    rig.clock.advance(4.9)
    archiver.step(0)
    assert rig.counts() == []
    assert rig.cursor() == 0
    rig.clock.advance(0.2)
    archiver.step(0)
    assert rig.counts() == [3]
    assert rig.cursor() == 3


def test_age_closes_a_segment_that_never_idles(rig: Rig) -> None:
    archiver = rig.archiver()
    for _ in range(16):
        rig.append(1)
        archiver.step(0)
        rig.clock.advance(4)
    archiver.step(0)
    assert rig.counts() == [16]


def test_count_and_size_close_a_segment_and_the_rest_waits(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(250)
    archiver.step(0)
    assert rig.counts() == [100, 100]
    assert rig.cursor() == 200
    rig.append(50, size=1000)
    archiver.step(0)
    assert rig.counts() == [100, 100, 57, 9, 9, 9, 9]
    assert rig.cursor() == 293
    assert verify(rig.store).sound


def test_flush_stores_everything_and_is_busy_until_then(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    rig.append(2, topic="rejects")
    archiver.step(0)
    assert archiver.busy()  # the ends of the chains are not known yet
    archiver.step(0)
    assert not archiver.busy()
    archiver.flush()
    assert archiver.busy()
    archiver.step(0)
    assert not archiver.busy()
    assert (rig.counts(), rig.counts("rejects")) == ([3], [2])


def test_only_archived_topics_are_stored(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(1, topic="deliveries")
    rig.append(1, topic="verdicts")
    archiver.step(0)
    archiver.step(0)
    archiver.close()
    assert [record.topic for record in read_records(rig.store)] == ["verdicts"]


def test_close_stores_the_buffered_records(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.close()
    assert rig.counts() == [3]
    assert rig.cursor() == 3


def test_records_not_stored_at_close_are_read_by_the_next_archiver(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    rig.store.down = True
    archiver.close()
    rig.store.down = False
    rig.archiver().close()
    assert rig.counts() == [3]


def test_a_crash_between_store_and_commit_archives_once(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.flush()
    rig.store.crash_after = True
    with pytest.raises(Crash):
        archiver.step(0)
    assert (rig.counts(), rig.cursor()) == ([3], 0)
    rig.kill()
    again = rig.archiver()
    assert rig.cursor() == 3
    rig.append(1)
    again.step(0)
    again.flush()
    again.step(0)
    assert rig.counts() == [3, 1]
    assert verify(rig.store).sound


def test_the_loser_of_a_race_drops_what_the_winner_archived(rig: Rig) -> None:
    stale = rig.archiver()
    rig.append(3)
    stale.step(0)
    rig.kill()
    winner = rig.archiver()
    rig.append(2)
    winner.step(0)
    winner.flush()
    winner.step(0)
    stale.flush()
    stale.step(0)
    assert rig.counts() == [5]
    assert not stale.busy()


def test_a_revoked_partition_is_archived_by_its_new_owner(rig: Rig) -> None:
    archivers = [rig.archiver()]
    rig.append(3)
    archivers[0].step(0)
    archivers += [rig.archiver(), rig.archiver()]
    for _ in range(3):
        for archiver in archivers:
            archiver.flush()
            archiver.step(0)
    assert sum(rig.counts()) == 3
    assert rig.cursor() == 3


def test_an_unavailable_store_is_tried_again_and_nothing_is_lost(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    rig.store.down = True
    archiver.flush()
    for pause in RETRY_SECONDS:
        with capture_logs() as logs:
            archiver.step(0)
            archiver.step(0)
        assert [(one["event"], one["retry_in"]) for one in logs] == [
            ("store unavailable, records wait", pause)
        ]
        assert archiver.busy()
        rig.clock.advance(pause)
    rig.store.down = False
    archiver.step(0)
    assert rig.counts() == [3]
    assert not archiver.busy()


def test_a_segment_is_archived_once_though_the_answer_was_lost(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.flush()
    rig.store.fail_after = True
    archiver.step(0)
    rig.append(2)
    rig.clock.advance(1)
    archiver.step(0)
    assert rig.counts() == [3, 2]
    assert rig.cursor() == 5


def test_the_archiver_waits_for_a_store_that_is_down_at_the_start(rig: Rig) -> None:
    rig.store.down = True
    rig.append(5000)
    archiver = rig.archiver()
    for _ in range(3):
        archiver.step(0)
    rig.store.down = False
    rig.clock.advance(60)
    for _ in range(3):
        archiver.flush()
        archiver.step(0)
    assert sum(rig.counts()) == 5000
    assert rig.cursor() == 5000


def test_memory_is_bounded_while_the_store_is_down(rig: Rig) -> None:
    archiver = rig.archiver(memory_limit=100_000)
    rig.store.down = True
    with capture_logs() as logs:
        for _ in range(5):
            rig.append(100, size=1000)
            archiver.step(0)
            rig.clock.advance(0.4)
    assert 100_000 <= max(one["bytes"] for one in logs) < 250_000
    rig.store.down = False
    rig.clock.advance(60)
    for _ in range(4):
        archiver.flush()
        archiver.step(0)
    assert sum(rig.counts()) == 500
    assert verify(rig.store).sound


def test_segments_are_stored_early_when_memory_is_full(rig: Rig) -> None:
    rig.bus.create("rejects")
    archiver = rig.archiver(memory_limit=5000)
    rig.append(4, size=1000)
    rig.append(1, size=1000, topic="rejects")
    archiver.step(0)
    assert (rig.counts(), rig.counts("rejects")) == ([4], [])


def test_a_gap_is_logged_counted_and_archived(rig: Rig) -> None:
    before = _counted("gap_records", role="archiver", topic=TOPIC)
    rig.append(5)
    rig.bus.truncate(PARTITION, 2)
    with capture_logs() as logs:
        archiver = rig.archiver()
    found = [one for one in logs if one["log_level"] == "error"]
    assert [(one["partition"], one["start"], one["end"]) for one in found] == [(f"{TOPIC}:0", 0, 2)]
    archiver.flush()
    archiver.step(0)
    assert _counted("gap_records", role="archiver", topic=TOPIC) - before == 2
    (info,) = list_segments(rig.store, TOPIC)
    assert (info.read_header().gaps, info.read_header().expected_offset, info.read_header().first_offset) == (
        ((0, 2),),
        0,
        2,
    )
    assert verify(rig.store).lost_offsets == 2


def test_stored_segments_and_records_are_counted(rig: Rig) -> None:
    records, segments = _counted("archived", topic=TOPIC), _counted("segments", topic=TOPIC)
    archiver = rig.archiver()
    rig.append(150)
    archiver.step(0)
    archiver.close()
    assert _counted("archived", topic=TOPIC) - records == 150
    assert _counted("segments", topic=TOPIC) - segments == 2


def test_a_chain_of_another_bus_stops_the_archiver(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.close()
    rig.bus = MemoryBus(rig.clock, partitions=1)
    rig.append(5)
    with pytest.raises(ArchiveBroken, match="archive new-epoch"):
        rig.archiver()
    assert rig.counts() == [3]


def test_a_store_that_refuses_stops_the_archiver(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.flush()

    def refuse(key: str, body: bytes) -> bool:
        raise StoreRefused("no permission")

    monkeypatch.setattr(rig.store, "put_new", refuse)
    with pytest.raises(StoreRefused):
        archiver.step(0)
    assert rig.cursor() == 0


def test_a_cursor_after_the_end_of_the_archive_skips_no_record(rig: Rig) -> None:
    archiver = rig.archiver()
    rig.append(3)
    archiver.step(0)
    archiver.close()
    for info in list_segments(rig.store):
        rig.store.delete(info.key)
    assert rig.cursor() == 3
    archiver = rig.archiver()
    archiver.close()
    assert rig.counts() == [3]


def test_records_are_archived_byte_for_byte(rig: Rig) -> None:
    value, key = bytes(range(256)), b"\xff\x00"
    rig.bus.append([NewRecord(TOPIC, value, key, (("a", b"\x00"), ("a", b"")))])
    rig.archiver().close()
    assert list(read_records(rig.store)) == list(rig.bus.read(PARTITION, 0).records)

"""`SqliteBus` passes the conformance suite, and keeps its own promises: one file, reopened, damaged, on a full disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from heliograph.bus.base import Bus, Extent
from heliograph.bus.sqlite import SqliteBus, schema, writer
from schemas.clock import Clock, ManualClock
from schemas.errors import BusDamaged, BusFull, BusUnavailable
from schemas.record import NewRecord, TopicPartition
from tests.conformance.bus import BusConformance
from tests.conformance.bus_driver import Member, events, values
from tests.conformance.bus_topics import RETENTION, RetentionConformance, read_all

ROOT = Path(__file__).parents[3]

DIE_WITH_RECORDS = """
import os, signal, sys
from pathlib import Path
from heliograph.bus.sqlite import SqliteBus

path, topic, group, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
consumer = SqliteBus(path, retention_seconds=None, reserve_bytes=0).consumer([topic], group)
got = 0
while got < count:
    got += len(consumer.poll(timeout=0.1).records)
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_log(path: Path, clock: Clock | None = None, *, reserve_bytes: int = 0) -> SqliteBus:
    return SqliteBus(path, retention_seconds=RETENTION, reserve_bytes=reserve_bytes, clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "bus.db"


@pytest.fixture
def bus(path: Path) -> Iterator[SqliteBus]:
    with closing(open_log(path)) as opened:
        yield opened


class TestSqliteBus(BusConformance, RetentionConformance):
    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()

    @pytest.fixture
    def bus(self, path: Path, clock: Clock) -> Iterator[Bus]:
        with closing(open_log(path, clock)) as bus:
            yield bus

    @pytest.fixture
    def another_handle(self, bus: Bus, path: Path, clock: Clock) -> Iterator[Bus]:
        with closing(open_log(path, clock)) as other:
            yield other

    @pytest.fixture
    def reopen(self, bus: Bus, path: Path, clock: Clock) -> Iterator[Callable[[], Bus]]:
        again: list[Bus] = []

        def close_and_open() -> Bus:
            bus.close()
            again.append(open_log(path, clock))
            return again[-1]

        yield close_and_open
        for each in again:
            each.close()

    @pytest.fixture
    def truncate(self, path: Path) -> Callable[[TopicPartition, int], None]:
        return lambda partition, before: truncated(path, partition, before)

    @pytest.fixture
    def killed_consumer(self, path: Path) -> Callable[[str, str, int], None]:
        def die(topic: str, group: str, count: int) -> None:
            command = [sys.executable, "-c", DIE_WITH_RECORDS, str(path), topic, group, str(count)]
            assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == -9

        return die


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Locks the file through another connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def truncated(path: Path, partition: TopicPartition, before: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (identity,) = connection.execute(
            "SELECT id FROM partitions WHERE topic = ? AND partition = ?", partition
        ).fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "DELETE FROM records WHERE id >= ? AND id < ?",
            (schema.pack(identity, 0), schema.pack(identity, before)),
        )
        connection.execute("UPDATE partitions SET start = ? WHERE id = ?", (before, identity))
        connection.execute("COMMIT")


def test_records_and_cursors_outlive_the_process(path: Path, bus: SqliteBus) -> None:
    bus.append(events("t", 5))
    member = Member(bus, "t", "g")
    member.done(member.collect(5)[:2])
    member.consumer.close()
    program = (
        "import sys; from pathlib import Path; from heliograph.bus.sqlite import SqliteBus;"
        "bus = SqliteBus(Path(sys.argv[1]), retention_seconds=None, reserve_bytes=0);"
        "print(bus.log_id, sum(lag.cursor for lag in bus.lag('g').values()), bus.groups())"
    )
    command = [sys.executable, "-c", program, str(path)]
    printed = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True).stdout
    assert printed.split(maxsplit=2) == [bus.log_id, "2", "['g']\n"]


def test_two_names_of_one_file_open_the_same_bus(tmp_path: Path, path: Path, bus: SqliteBus) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    one = Member(bus, "t", "g")
    bus.create("t")
    one.poll()
    with closing(open_log(link)) as other:
        assert other.members("g") == {one.consumer.member}


def test_timestamps_of_a_partition_never_decrease(path: Path) -> None:
    clock = ManualClock()
    with closing(open_log(path, clock)) as bus:
        bus.append(events("t", 2))
        before = clock.now()
        clock.step(-3600)
        bus.append(events("t", 1, first=2))
        clock.step(7200)
        bus.append(events("t", 1, first=3))
        timestamps = [record.timestamp for record in read_all(bus, "t")]
        assert timestamps == [before, before, before, clock.now()]
        assert bus.offset_at(TopicPartition("t", 0), before + 1) == 3


def test_records_without_a_key_go_to_one_partition_for_each_batch(bus: SqliteBus) -> None:
    batches = [bus.append(events("t", 3, partition=None)) for _ in range(4)]
    chosen = [{position.partition for position in batch} for batch in batches]
    assert sorted(len(each) for each in chosen) == [1] * 4
    assert set[int]().union(*chosen) == set(range(4))


def test_large_records_are_polled_in_small_batches(bus: SqliteBus) -> None:
    megabyte = b"x" * (1024 * 1024 - 100)
    for _ in range(10):
        bus.append([NewRecord("t", megabyte, partition=0)] * 30)
    polled = bus.read(TopicPartition("t", 0), 0)
    assert 32 <= len(polled.records) < 300
    member = Member(bus, "t", "g")
    assert len(member.collect(300)) == 300


def test_retention_gives_disk_space_back(path: Path) -> None:
    clock = ManualClock()
    with closing(open_log(path, clock)) as bus:
        bus.append([NewRecord("t", b"x" * 10_000)] * 1000)
        bus.maintain()
        before = path.stat().st_size
        assert before > 10_000_000
        clock.advance(RETENTION + 1)
        bus.maintain()
        assert path.stat().st_size < before / 10
        assert path.with_name("bus.db-wal").stat().st_size == 0
        assert bus.extents("t") == {
            TopicPartition("t", number): Extent(1000, 1000) if number == 0 else Extent(0, 0)
            for number in range(4)
        }


def test_compaction_keeps_the_last_record_of_each_key(path: Path) -> None:
    clock = ManualClock()
    with closing(open_log(path, clock)) as bus:
        place = TopicPartition("parked", 1)

        def put(key: int, value: bytes) -> NewRecord:
            return NewRecord("parked", value, b"%d" % key, partition=1)

        def held() -> list[tuple[int, bytes | None, bytes]]:
            return [(one.offset, one.key, one.value) for one in bus.read(place, 0).records]

        bus.append([put(number % 5, b"%d" % number) for number in range(20_000)])
        bus.append([put(3, b""), put(4, b"again")])
        bus.maintain()
        kept = [(19_995 + key, b"%d" % key, b"%d" % (19_995 + key)) for key in range(3)]
        ends = [(20_000, b"3", b""), (20_001, b"4", b"again")]
        assert held() == kept + ends
        clock.advance(25 * 3600)
        bus.append([put(0, b"")])
        bus.maintain()
        assert held() == [*kept[1:], ends[1], (20_002, b"0", b"")]
        assert bus.extents("parked")[place] == Extent(0, 20_003)


def test_a_failed_commit_finishes_nothing(
    path: Path, bus: SqliteBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_WAIT", 0.05)
    bus.append(events("t", 4))
    member = Member(bus, "t", "g")
    records = member.collect(4)
    with locked(path), pytest.raises(BusUnavailable, match=r"locked by another process.*end that process"):
        member.done(records[:2], events("out", 1))
    member.done(records[3:])
    assert bus.lag("g")[TopicPartition("t", 0)].cursor == 0
    assert "out" not in bus.topics()
    member.done(records[:2], events("out", 1))
    assert bus.lag("g")[TopicPartition("t", 0)].cursor == 2


def test_a_commit_of_an_older_epoch_is_not_stored(path: Path, bus: SqliteBus) -> None:
    bus.append(events("t", 4))
    stale = Member(bus, "t", "g")
    records = stale.collect(4)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cursors SET epoch = epoch + 1")
    assert len(stale.done(records, events("out", 1))) == 1
    assert bus.lag("g")[TopicPartition("t", 0)].cursor == 0
    again = stale.collect(4)
    assert values(again) == [0, 1, 2, 3]
    assert [what for what, _ in stale.callbacks] == ["gained", "lost", "gained"]
    stale.done(again)
    assert bus.lag("g")[TopicPartition("t", 0)].cursor == 4


def test_reading_works_while_the_file_is_locked_for_writing(path: Path, bus: SqliteBus) -> None:
    bus.append(events("t", 4))
    with locked(path):
        assert values(bus.read(TopicPartition("t", 0), 0).records) == [0, 1, 2, 3]
        assert bus.groups() == []


def test_opening_waits_while_another_process_closes_the_file(path: Path) -> None:
    open_log(path).close()
    closing_one = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    closing_one.execute("PRAGMA locking_mode = EXCLUSIVE")  # as SQLite has it while the last one closes
    closing_one.execute("SELECT count(*) FROM meta").fetchone()
    done = threading.Timer(0.3, closing_one.close)
    done.start()
    with closing(open_log(path)) as bus:
        bus.append(events("orders", 1))
    done.join()


def test_a_file_that_is_no_database_raises_bus_damaged(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(BusDamaged, match="heliograph restore"):
        open_log(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(BusDamaged, match="not a bus of Heliograph"):
        open_log(path)


def test_damaged_pages_raise_bus_damaged(path: Path, bus: SqliteBus) -> None:
    bus.append([NewRecord("t", os.urandom(500), partition=0) for _ in range(1000)])
    bus.maintain()
    bus.close()
    with path.open("r+b") as file:
        for page in range(5, path.stat().st_size // 16384):
            file.seek(page * 16384)
            file.write(b"\xff" * 4096)
    with closing(open_log(path)) as damaged, pytest.raises(BusDamaged, match="heliograph restore"):
        damaged.read(TopicPartition("t", 0), 0)


def test_unreadable_headers_raise_bus_damaged(path: Path, bus: SqliteBus) -> None:
    bus.append(events("t", 1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET headers = x'c1'")
    with pytest.raises(BusDamaged, match="headers"):
        bus.read(TopicPartition("t", 0), 0)


def test_a_file_of_a_newer_version_is_refused(path: Path, bus: SqliteBus) -> None:
    bus.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
    with pytest.raises(BusUnavailable, match="newer Heliograph"):
        open_log(path)


def test_a_file_of_an_older_version_is_upgraded(
    path: Path, bus: SqliteBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.append(events("t", 3))
    bus.close()
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, ["ALTER TABLE partitions ADD COLUMN later TEXT"]])
    with closing(open_log(path)) as migrated:
        assert migrated.log_id == bus.log_id
        assert values(read_all(migrated, "t")) == [0, 1, 2]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.STEPS),)
        assert connection.execute("SELECT later FROM partitions LIMIT 1").fetchone() == (None,)


def test_a_folder_that_cannot_be_created_is_named() -> None:
    with pytest.raises(BusUnavailable, match=r"/proc/nowhere.*may write"):
        open_log(Path("/proc/nowhere/bus.db"))


def test_a_folder_in_place_of_the_file_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(BusUnavailable, match=r"bus\.db"):
        open_log(path)


def test_calls_after_close_raise_bus_unavailable(path: Path, bus: SqliteBus) -> None:
    bus.append(events("t", 1))
    bus.close()
    with pytest.raises(BusUnavailable, match="open the bus again"):
        bus.append(events("t", 1))
    with pytest.raises(BusUnavailable, match="open the bus again"):
        bus.extents("t")


def test_a_full_disk_raises_bus_full_and_loses_no_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[sqlite3.Connection] = []

    def connect(path: Path, *, reader: bool) -> sqlite3.Connection:
        kept.append(schema.connect(path, reader=reader))
        return kept[-1]

    monkeypatch.setattr(writer, "connect", connect)
    with closing(open_log(path)) as bus:
        bus.append(events("t", 3))
        (pages,) = kept[0].execute("PRAGMA page_count").fetchone()
        kept[0].execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(BusFull, match="free some space"):
            bus.append([NewRecord("t", b"x" * 1000, partition=0)] * 1000)
        assert values(read_all(bus, "t")) == [0, 1, 2]
        kept[0].execute("PRAGMA max_page_count = 1000000")
        bus.append(events("t", 1, first=3))
        assert values(read_all(bus, "t")) == [0, 1, 2, 3]


def test_below_the_reserve_appends_are_refused_and_commits_are_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100 * 2**20]

    def free_bytes(_path: Path) -> int:
        return free[0]

    monkeypatch.setattr("heliograph.bus.sqlite.reserve.free_bytes", free_bytes)
    monkeypatch.setattr("heliograph.bus.sqlite.reserve._LOOK_EVERY", 0.0)
    with closing(open_log(path, reserve_bytes=64 * 2**20)) as bus:
        bus.append(events("t", 3))
        member = Member(bus, "t", "g")
        records = member.collect(3)
        free[0] = 10 * 2**20
        with pytest.raises(BusFull, match=r"10 MiB free, below the reserve of 64 MiB; free some space"):
            bus.append(events("t", 1))
        assert len(member.done(records, events("verdicts", 1))) == 1
        assert bus.lag("g")[TopicPartition("t", 0)].cursor == 3
        free[0] = 65 * 2**20
        bus.append(events("t", 1))


def test_a_waiting_poll_is_woken_by_another_thread(bus: SqliteBus) -> None:
    bus.create("t")
    member = Member(bus, "t", "g")
    member.poll()
    thread = threading.Thread(target=lambda: bus.append(events("t", 1)))
    thread.start()
    assert values(member.poll(timeout=30)) == [0]
    thread.join()
    waker = threading.Thread(target=member.consumer.wake)
    waker.start()
    assert values(member.poll(timeout=600)) == []  # the test's own time limit is below that
    waker.join()


def test_new_files_and_folders_are_accessible_to_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "home" / "bus.db"
        with closing(SqliteBus(path, retention_seconds=None, reserve_bytes=0)) as bus:
            bus.append([NewRecord("queue", b"x")])
            modes = {each: each.stat().st_mode & 0o777 for each in (path.parent, *path.parent.iterdir())}
    finally:
        os.umask(before)
    assert len(modes) > 3
    assert not [each for each, mode in modes.items() if mode & 0o077]

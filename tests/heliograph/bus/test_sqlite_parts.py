"""Parts of the embedded bus, each by itself."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.fairness import fair_amounts
from heliograph.bus.sqlite import filelock
from heliograph.bus.sqlite.catalogue import Catalogue, Snapshot
from heliograph.bus.sqlite.errors import TABLE, translate, translated
from heliograph.bus.sqlite.ownership import shares
from heliograph.bus.sqlite.schema import connect
from heliograph.bus.sqlite.wakeup import Watch
from heliograph.bus.sqlite.writer import Writer
from schemas.errors import BusDamaged, BusError, BusFull, BusUnavailable
from schemas.record import TopicPartition

WHERE = Path("/somewhere/bus.db")


def primary_codes() -> dict[str, int]:
    """Lists the result codes of SQLite 3 that are errors (https://www.sqlite.org/rescode.html): 1 to 28 without holes."""
    names = (
        "ABORT AUTH BUSY CANTOPEN CONSTRAINT CORRUPT EMPTY ERROR FORMAT FULL INTERNAL INTERRUPT IOERR LOCKED MISMATCH "
        "MISUSE NOLFS NOMEM NOTADB NOTFOUND NOTICE PERM PROTOCOL RANGE READONLY SCHEMA TOOBIG WARNING"
    )
    return {name: getattr(sqlite3, f"SQLITE_{name}") for name in names.split()}


def failed(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


def test_the_table_of_errors_has_every_result_code() -> None:
    assert set(TABLE) == set(primary_codes().values()) == set(range(1, 29))
    extended = {
        code
        for name, code in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(code, int) and code > 0xFF
    }
    assert extended
    assert {code & 0xFF for code in extended} - {sqlite3.SQLITE_OK} <= set(TABLE)


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (sqlite3.SQLITE_FULL, BusFull, "free some space"),
        (sqlite3.SQLITE_IOERR_WRITE, BusFull, "disk errors"),
        (sqlite3.SQLITE_IOERR_READ, BusDamaged, "heliograph restore"),
        (sqlite3.SQLITE_BUSY, BusUnavailable, "another process"),
        (sqlite3.SQLITE_BUSY_RECOVERY, BusUnavailable, "another process"),
        (sqlite3.SQLITE_CORRUPT_INDEX, BusDamaged, "heliograph restore"),
        (sqlite3.SQLITE_NOTADB, BusDamaged, "heliograph restore"),
        (sqlite3.SQLITE_READONLY_DBMOVED, BusUnavailable, "may write"),
        (sqlite3.SQLITE_CANTOPEN, BusUnavailable, "may write"),
        (sqlite3.SQLITE_MISUSE, BusError, "report"),
    ],
)
def test_sqlite_errors_name_the_file_and_the_remedy(code: int, kind: type[BusError], remedy: str) -> None:
    error = translate(failed(code), WHERE)
    assert type(error) is kind
    assert str(error).startswith("/somewhere/bus.db: it failed; ")
    assert remedy in str(error)


def test_a_full_disk_and_missing_permission_raise_different_errors() -> None:
    with pytest.raises(BusFull, match=r"^/x: No space left"), translated(WHERE):
        raise OSError(errno.ENOSPC, "No space left", "/x")
    with pytest.raises(BusUnavailable, match=r"^/somewhere/bus.db: Read-only"), translated(WHERE):
        raise OSError(errno.EROFS, "Read-only")


@given(
    topics=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 13)),
    members=st.sets(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=5),
)
def test_shares_of_all_members_add_up_and_are_fair(topics: dict[str, int], members: set[str]) -> None:
    wanting = dict.fromkeys(topics, tuple(sorted(members)))
    each = [shares(member, topics, wanting) for member in members]
    for topic, partitions in topics.items():
        assert sum(share[topic] for share in each) == partitions
    sums = [sum(share.values()) for share in each]
    assert max(sums) - min(sums) <= 1


@given(
    wanting=st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("xyz"), min_size=1)),
    partitions=st.integers(1, 13),
)
def test_shares_add_up_when_members_want_different_topics(
    wanting: dict[str, set[str]], partitions: int
) -> None:
    ordered = {topic: tuple(sorted(members)) for topic, members in wanting.items()}
    each = [
        shares(member, {topic: partitions for topic in wanting if member in wanting[topic]}, ordered)
        for member in "xyz"
    ]
    for topic in wanting:
        assert sum(share.get(topic, 0) for share in each) == partitions


@given(sizes=st.lists(st.integers(1, 50), max_size=12), limit=st.integers(1, 200))
def test_fair_amounts_use_the_whole_limit(sizes: list[int], limit: int) -> None:
    behind = {TopicPartition("t", number): size for number, size in enumerate(sizes)}
    amounts = fair_amounts(behind, limit)
    assert sum(amounts.values()) == min(limit, sum(sizes))
    for partition, amount in amounts.items():
        assert 0 < amount <= behind[partition]
    if len(sizes) < limit:
        unsatisfied = [amounts[each] for each in behind if amounts[each] < behind[each]]
        assert not unsatisfied or max(unsatisfied) - min(unsatisfied) <= 1
        assert all(amount <= min(unsatisfied, default=limit) + 1 for amount in amounts.values())


class TestWriter:
    @pytest.fixture
    def writer(self, tmp_path: Path) -> Iterator[Writer]:
        path = tmp_path / "file.db"
        with closing(connect(path, reader=False)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE made (x INTEGER PRIMARY KEY)")
        with closing(Writer(path)) as writer:
            yield writer

    def test_waiting_work_shares_a_transaction_and_one_failure_fails_only_itself(
        self, writer: Writer
    ) -> None:
        """The first work holds the turn until all others wait; one of these fails in the shared transaction."""
        waiting = threading.Semaphore(0)
        outcomes: dict[int, object] = {}

        def first(connection: sqlite3.Connection) -> int:
            for _ in range(5):
                waiting.acquire()
            while len(writer._waiting) < 5:  # pyright: ignore[reportPrivateUsage]
                pass
            return insert(connection, 0)

        def run(number: int) -> None:
            waiting.release()
            try:
                outcomes[number] = writer.run(lambda connection: insert(connection, number % 5))
            except BusError as error:
                outcomes[number] = type(error)

        leader = threading.Thread(target=lambda: writer.run(first))
        leader.start()
        others = [threading.Thread(target=run, args=(number,)) for number in range(1, 6)]
        for thread in others:
            thread.start()
        for thread in [leader, *others]:
            thread.join()
        assert outcomes == {1: 1, 2: 2, 3: 3, 4: 4, 5: BusDamaged}  # 5 inserts 0 again, which is there
        assert writer.run(lambda connection: sorted(connection.execute("SELECT x FROM made"))) == [
            (number,) for number in range(5)
        ]

    def test_an_error_of_the_work_reaches_its_caller_and_rolls_back(self, writer: Writer) -> None:
        def fail(connection: sqlite3.Connection) -> None:
            insert(connection, 1)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            writer.run(fail)
        assert writer.run(lambda connection: connection.execute("SELECT x FROM made").fetchall()) == []

    def test_an_interrupt_leaves_the_writer_usable(self, writer: Writer) -> None:
        def interrupted(connection: sqlite3.Connection) -> None:
            insert(connection, 1)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            writer.run(interrupted)
        assert writer.run(lambda connection: insert(connection, 1)) == 1


def insert(connection: sqlite3.Connection, number: int) -> int:
    connection.execute("INSERT INTO made VALUES (?)", (number,))
    return number


class TestFileLock:
    def test_a_lock_has_one_holder(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        lock = filelock.take(path)
        assert lock is not None
        assert filelock.take(path) is None
        assert filelock.is_held(path)
        filelock.release(lock)
        assert not filelock.is_held(path)
        assert not filelock.is_held(tmp_path / "missing")

    def test_a_new_lock_file_is_never_visible_unlocked(self, tmp_path: Path) -> None:
        lock = filelock.take_new(tmp_path / "member", "text")
        assert [file.name for file in tmp_path.iterdir()] == ["member"]
        assert (tmp_path / "member").read_text() == "text"
        assert filelock.is_held(tmp_path / "member")
        filelock.release(lock)

    def test_waiting_for_a_lock_ends_with_bus_unavailable(self, tmp_path: Path) -> None:
        with (
            filelock.waiting_lock(tmp_path / "lock", 0.01),
            pytest.raises(BusUnavailable, match="end that process"),
            filelock.waiting_lock(tmp_path / "lock", 0.01),
        ):
            pass


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    with closing(connect(path, reader=False)) as writer:
        writer.execute("CREATE TABLE made (x)")
    with (
        closing(connect(path, reader=True)) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("INSERT INTO made VALUES (1)")


def test_a_watch_that_fails_wakes_the_waiting_polls(tmp_path: Path) -> None:
    class Failing(Catalogue):
        def refresh(self) -> Snapshot:
            raise BusUnavailable("locked")

    catalogue = Failing(tmp_path / "file.db")
    watch = Watch(catalogue)
    watch.wait(watch.generation, 600)  # the test's own time limit is below that
    watch.close()
    catalogue.close()

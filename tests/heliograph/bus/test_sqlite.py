"""The embedded log keeps the whole contract, and what only it promises: one file, opened again, damaged, full."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heliograph.bus.base import Bus
from heliograph.bus.sqlite import SqliteBus, schema
from schemas.clock import Clock, ManualClock
from schemas.record import TopicPartition
from tests.conformance.bus import BusConformance
from tests.conformance.bus_log import RETENTION

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
def log(path: Path) -> Iterator[SqliteBus]:
    with closing(open_log(path)) as opened:
        yield opened


class TestSqliteBus(BusConformance):
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

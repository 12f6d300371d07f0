"""Several real processes on one bus file: appending, sharing, waking each other, dying by kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from heliograph.bus.sqlite import SqliteBus
from schemas.record import NewRecord, TopicPartition
from tests.conformance.bus_driver import Member, events, eventually, values
from tests.conformance.bus_topics import read_all

ROOT = Path(__file__).parents[3]

OPEN = """
import sys, time
from pathlib import Path
from heliograph.bus.sqlite import SqliteBus
from schemas.record import NewRecord, TopicPartition
bus = SqliteBus(Path(sys.argv[1]), retention_seconds=None, reserve_bytes=0)
"""

APPEND = """
for batch in range(20):
    bus.append([NewRecord("t", b"%d" % (int(sys.argv[2]) * 1000 + batch * 10 + n), partition=0) for n in range(10)])
"""

WORK = """
consumer = bus.consumer(["t"], "g")
while True:
    records = consumer.poll(50, 0.05).records
    for some in (records[len(records) // 2:], records[:len(records) // 2]):
        consumer.done([each.position for each in some], [NewRecord("out", each.value, partition=0) for each in some])
"""

HOLD_ON = """
consumer = bus.consumer(["t"], "g")
while True:
    records = consumer.poll(50, 0.05).records
    consumer.done([each.position for each in records if each.offset % 2])
    if records:
        print(len(records), flush=True)
"""

ECHO = """
consumer = bus.consumer(["ping"], "echo")
while True:
    records = consumer.poll(50, 30.0).records
    consumer.done([each.position for each in records], [NewRecord("pong", each.value) for each in records])
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@pytest.fixture
def bus(path: Path) -> Iterator[SqliteBus]:
    with closing(SqliteBus(path, retention_seconds=None, reserve_bytes=0)) as opened:
        yield opened


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Runs a program on the bus in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OPEN + program, str(path), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@contextmanager
def within(seconds: float) -> Generator[Callable[[], bool]]:
    deadline = time.monotonic() + seconds
    yield lambda: time.monotonic() < deadline


def test_processes_that_append_at_once_lose_no_record(bus: SqliteBus, start: Start) -> None:
    writers = [start(APPEND, str(number)) for number in range(3)]
    for _ in range(20):
        bus.append(events("t", 5, first=9000))
    assert [process.wait(timeout=60) for process in writers] == [0, 0, 0]
    counts = Counter(values(read_all(bus, "t")))
    assert sum(counts.values()) == 3 * 200 + 100
    for number in range(3):
        own = [value for value in values(read_all(bus, "t")) if value // 1000 == number]
        assert own == list(range(number * 1000, number * 1000 + 200))


def test_killed_workers_neither_lose_nor_repeat_committed_work(bus: SqliteBus, start: Start) -> None:
    bus.append([NewRecord("t", b"%d" % number, partition=number % 4) for number in range(4000)])
    workers = [start(WORK), start(WORK)]
    killed = 0
    with within(60) as time_is_left:
        while (finished := sum(lag.cursor for lag in bus.lag("g").values())) < 4000:
            assert time_is_left(), finished
            if finished > 1000 * killed and killed < 3:
                kill(workers[0])
                workers = [*workers[1:], start(WORK)]
                killed += 1
            time.sleep(0.005)
    assert killed >= 1
    # One transaction finishes a record and appends what follows from it, so there is one of each, whoever dies.
    assert Counter(values(read_all(bus, "out"))) == Counter(range(4000))


def test_the_next_owner_gets_only_the_unfinished_records_of_a_killed_member(
    bus: SqliteBus, start: Start
) -> None:
    bus.append([NewRecord("t", b"%d" % number, partition=number % 4) for number in range(40)])
    holder = start(HOLD_ON)
    assert holder.stdout is not None
    handed_out = 0
    while handed_out < 40:
        handed_out += int(holder.stdout.readline())
    kill_at_rest(bus, holder)
    member = Member(bus, "t", "g")
    records = member.collect(20)
    assert {record.offset % 2 for record in records} == {0}
    member.expect_quiet()
    assert bus.members("g") == {member.consumer.member}


def kill_at_rest(bus: SqliteBus, holder: subprocess.Popen[str]) -> None:
    assert len(bus.members("g")) == 1
    kill(holder)
    assert bus.members("g") == frozenset()


def test_a_waiting_member_takes_over_the_partitions_of_a_killed_one(bus: SqliteBus, start: Start) -> None:
    bus.create("t")
    holder = start(WORK)
    with within(30) as time_is_left:
        while not bus.lag("g"):
            assert time_is_left()
            time.sleep(0.01)
    member = Member(bus, "t", "g")
    eventually(lambda: len(member.consumer.assigned()) == 2, member)
    kill(holder)
    eventually(lambda: len(member.consumer.assigned()) == 4, member)


def test_an_append_wakes_a_poll_of_another_process(bus: SqliteBus, start: Start) -> None:
    bus.create("ping")
    bus.create("pong")
    start(ECHO)
    with within(30) as time_is_left:
        while len(bus.lag("echo")) < 4:
            assert time_is_left()
            time.sleep(0.01)
    consumer = bus.consumer(["pong"], "here")
    for number in range(20):
        bus.append([NewRecord("ping", b"%d" % number)])
        # Both polls wait 30 s if nobody wakes them: twenty rounds would pass the test's time limit.
        assert values(consumer.poll(timeout=30.0).records) == [number]
    assert TopicPartition("pong", 0) in consumer.assigned()

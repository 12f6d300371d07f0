"""Sinks of kind `logs`."""

import asyncio
import errno
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError
from typing_extensions import Buffer

from archiver.read.query_cache import read_log_lines
from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.delivery import Delivered, Delivery, Outcome, ReasonCode, Rejected, Retry
from schemas.log_line import LogLine
from schemas.record import Position
from sinks.base import Sink, SinkContext
from sinks.logs import events as logs
from sinks.logs.events import KIND, LogsSettings, LogsSink, LogWriter, event_line
from tests.conformance.sink import Gate, SinkConformance, SinkDriver, make_delivery

EVENT = (
    b'{"ver": "1.0", "id": "1", "product": "ECS", "name": "Disk:Stalled:Executing", "level": "CRITICAL",\n'
    b' "resourceId": "acs:ecs:cn-hangzhou:1690:disk/d-1", "userId": "1690", "regionId": "cn-hangzhou",\n'
    b' "eventTime": "20190409T121826.922+0800", "content": {"diskId": "d-1", "note": "\xe7\x9b\x98"}}'
)


def delivery(number: int, event: bytes = EVENT) -> Delivery:
    source = Position("events.ecs.disk", 0, number)
    return Delivery(
        id=f"id-{number}",
        source=source,
        subscription="sub",
        target="ops",
        resource="acs:ecs:cn-hangzhou:1690:disk/d-1",
        event=event,
        event_time=1_554_783_506_922,
        configuration=1,
    )


def lines_of(path: Path) -> list[LogLine]:
    return list(read_log_lines(path))


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl.zst"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def writer(tmp_path: Path, clock: ManualClock) -> Iterator[LogWriter]:
    writer = LogWriter(tmp_path / "project" / "store", clock)
    yield writer
    writer.close()


def deliver(writer: LogWriter, batch: Sequence[Delivery]) -> Sequence[Outcome]:
    return asyncio.run(LogsSink(writer, event_line).deliver(batch))


def test_a_delivery_becomes_a_log_line(writer: LogWriter, tmp_path: Path) -> None:
    [outcome] = deliver(writer, [delivery(7)])
    [path] = segments(tmp_path)
    assert outcome == Delivered(path.name)
    assert path.parent == tmp_path / "project" / "store" / "2023-11-14"
    assert lines_of(path) == [
        LogLine(
            time=1_554_783_506_922,
            delivery="id-7",
            source="events.ecs.disk:0:7",
            subscription="sub",
            target="ops",
            product="ECS",
            name="Disk:Stalled:Executing",
            level="CRITICAL",
            resource_id="acs:ecs:cn-hangzhou:1690:disk/d-1",
            region_id="cn-hangzhou",
            user_id="1690",
            event=EVENT.decode(),
        )
    ]


def test_delivered_lines_are_readable_before_the_close(writer: LogWriter, tmp_path: Path) -> None:
    for number in range(3):
        deliver(writer, [delivery(number)])
        [path] = segments(tmp_path)
        assert [line.delivery for line in lines_of(path)] == [f"id-{one}" for one in range(number + 1)]


def test_every_batch_is_synced(writer: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(writer, [delivery(0)])
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    deliver(writer, [delivery(1), delivery(2)])
    assert len(synced) == 1


def test_a_file_ends_after_an_hour(writer: LogWriter, clock: ManualClock, tmp_path: Path) -> None:
    deliver(writer, [delivery(0)])
    clock.advance(logs.SEGMENT_SECONDS - 1)
    deliver(writer, [delivery(1)])
    clock.advance(1)
    deliver(writer, [delivery(2)])
    assert [len(lines_of(path)) for path in segments(tmp_path)] == [2, 1]


def test_a_file_ends_when_it_is_full(
    writer: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SEGMENT_BYTES", 1)
    for number in range(3):
        deliver(writer, [delivery(number)])
    assert [lines_of(path)[0].delivery for path in segments(tmp_path)] == ["id-0", "id-1", "id-2"]


def test_writers_of_one_logstore_have_files_of_their_own(tmp_path: Path, clock: ManualClock) -> None:
    for number in range(3):
        writer = LogWriter(tmp_path, clock)
        deliver(writer, [delivery(number)])
        writer.close()
    assert len(segments(tmp_path)) == 3


class FullDisk(io.FileIO):
    """Writes half of the first data, then fails for lack of space."""

    def write(self, data: Buffer, /) -> int:
        if self.tell() > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[: len(bytes(data)) // 2])


def test_a_full_disk_is_a_retry_and_leaves_no_part(
    writer: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FileIO", FullDisk)
    outcomes = deliver(writer, [delivery(0), delivery(1)])
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert isinstance(outcome, Retry)
        assert outcome.reason.code is ReasonCode.UNAVAILABLE
        assert "no space" in outcome.reason.detail
    assert segments(tmp_path) == []
    monkeypatch.undo()
    assert isinstance(deliver(writer, [delivery(0)])[0], Delivered)
    assert len(segments(tmp_path)) == 1


def test_a_failed_sync_keeps_the_lines_delivered_before(
    writer: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    deliver(writer, [delivery(0)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        [outcome] = deliver(writer, [delivery(1)])
    assert isinstance(outcome, Retry)
    deliver(writer, [delivery(1)])
    assert sorted(line.delivery for path in segments(tmp_path) for line in lines_of(path)) == ["id-0", "id-1"]
    assert len(segments(tmp_path)) == 2


def test_an_event_that_is_no_notification_is_rejected_alone(writer: LogWriter, tmp_path: Path) -> None:
    outcomes = deliver(
        writer, [delivery(0, b"[]"), delivery(1), delivery(2, EVENT.replace(b"\xe7", b"\xff"))]
    )
    assert [type(outcome) for outcome in outcomes] == [Rejected, Delivered, Rejected]
    assert [line.delivery for path in segments(tmp_path) for line in lines_of(path)] == ["id-1"]


def test_a_batch_without_notifications_writes_no_file(writer: LogWriter, tmp_path: Path) -> None:
    assert isinstance(deliver(writer, [delivery(0, b"{}")])[0], Rejected)
    assert segments(tmp_path) == []


def test_concurrent_batches_share_a_file(writer: LogWriter, tmp_path: Path) -> None:
    async def send() -> None:
        sink = LogsSink(writer, event_line)
        batches = ([delivery(10 * batch + one) for one in range(10)] for batch in range(20))
        await asyncio.gather(*(sink.deliver(batch) for batch in batches))
        await sink.close()

    asyncio.run(send())
    [path] = segments(tmp_path)
    assert {line.delivery for line in lines_of(path)} == {f"id-{number}" for number in range(200)}


def test_the_kind_writes_below_the_folder_of_logs(tmp_path: Path) -> None:
    sink_context = SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=tmp_path)

    async def send() -> None:
        sink = KIND.build(KIND.settings(project="ops", logstore="disk_events"), sink_context)
        await sink.deliver([delivery(0)])
        await sink.close()

    asyncio.run(send())
    [path] = segments(tmp_path)
    assert path.parent.parent == tmp_path / "ops" / "disk_events"


@pytest.mark.parametrize("name", ["", "a", "..", "a/b", "Upper", "-a", "a-", "x" * 64])
def test_projects_and_logstores_are_named_as_in_log_service(name: str) -> None:
    with pytest.raises(ValidationError, match="project"):
        LogsSettings(project=name, logstore="store")
    with pytest.raises(ValidationError, match="logstore"):
        LogsSettings(project="project", logstore=name)


class LogsDriver(SinkDriver):
    """Sinks of kind `logs`, whose syncs of the disk are held at a gate."""

    takes_any_size = True

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.context = SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=folder)
        self._gate = Gate()
        self._problem: OSError | None = None
        sync = os.fsync

        def gated(descriptor: int) -> None:
            self._gate.enter()
            if self._problem is not None:
                raise self._problem
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", gated)

    def build(self, *, patient: bool = True) -> Sink:
        return KIND.build(LogsSettings(project="ops", logstore="events"), self.context)

    def make_bad(self, number: int) -> Delivery:
        return make_delivery(number, b"[]")

    def refuse_large(self) -> None:
        """A file takes lines of any size."""

    def time_out(self) -> None:
        self._problem = OSError(errno.ETIMEDOUT, "Connection timed out")

    def hold(self) -> None:
        self._gate.shut()

    def is_holding(self) -> bool:
        return self._gate.reached.is_set()

    def release(self) -> None:
        self._problem = None
        self._gate.open()


class TestLogsConformance(SinkConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SinkDriver:
        return LogsDriver(tmp_path, monkeypatch)

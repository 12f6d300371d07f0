"""Sinks that write execution records to a log store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from archiver.read.query_cache import read_lines
from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.delivery import Delivered, Delivery, Outcome, Rejected
from schemas.log_line import RECORD_SUFFIX
from sinks.base import Sink, SinkContext
from sinks.logs.events import LogsSettings
from sinks.logs.executions import KIND
from tests.conformance.sink import SinkConformance, SinkDriver
from tests.executions import command, file
from tests.sinks.test_logs import LogsDriver
from tests.sinks.test_results import delivery


def deliver(folder: Path, values: Sequence[bytes]) -> Sequence[Outcome]:
    async def send() -> Sequence[Outcome]:
        settings = KIND.settings.model_validate({"project": "ops", "logstore": "runs"})
        sink = KIND.build(settings, SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=folder))
        try:
            return await sink.deliver([delivery(value, number) for number, value in enumerate(values)])
        finally:
            await sink.close()

    return asyncio.run(send())


def lines(folder: Path) -> list[dict[str, object]]:
    (path,) = folder.glob(f"ops/runs/*/*{RECORD_SUFFIX}")
    return list(read_lines(path, json.loads))


def test_a_log_line_holds_the_fields_of_the_record_as_text(tmp_path: Path) -> None:
    values = [command(), file(1)]
    assert all(isinstance(outcome, Delivered) for outcome in deliver(tmp_path, values))
    for number, (line, value) in enumerate(zip(lines(tmp_path), values, strict=True)):
        about = {"time": 0, "delivery": f"id{number}", "source": f"executions:0:{number}"}
        record = json.loads(value)
        assert line == about | {
            name: field if isinstance(field, str) else json.dumps(field) for name, field in record.items()
        }
        assert list(line)[3:] == list(record)


def test_an_invalid_record_is_rejected_alone(tmp_path: Path) -> None:
    bad, good = deliver(tmp_path, [b"{}", command()])
    assert isinstance(bad, Rejected)
    assert isinstance(good, Delivered)
    assert len(lines(tmp_path)) == 1


class ResultLogsDriver(LogsDriver):
    """Sinks of execution records that go to a log store; records have a limit of their own."""

    takes_any_size = False

    def build(self, *, patient: bool = True) -> Sink:
        return KIND.build(LogsSettings(project="ops", logstore="runs"), self.context)

    def make(self, number: int, text: bytes = b"ok") -> Delivery:
        return delivery(command(Output="TEXT").replace(b"TEXT", text), number)

    def make_bad(self, number: int) -> Delivery:
        return delivery(b"{}", number)


class TestResultLogsConformance(SinkConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SinkDriver:
        return ResultLogsDriver(tmp_path, monkeypatch)

"""An archive for the tests of queries, and its content."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archiver.format.segment import Draft
from archiver.read.query import query
from archiver.write.chain import Stored, Tail, append_segment, find_tail
from heliograph.store.folder import FolderStore
from schemas.clock import ManualClock
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivery,
    Exhausted,
    Verdict,
    VerdictState,
    encode_verdict,
)
from schemas.log_line import RECORD_SUFFIX, LogLine
from schemas.record import Headers, Position, Record
from sinks.logs.events import LogsSink, LogWriter, event_line
from sinks.logs.executions import record_line
from tests.executions import command, file

START = 1_700_000_000_000  # 2023-11-14T22:13:20Z
REGIONS = ("cn-hangzhou", "cn-beijing")


def event(number: int, content: object = None) -> bytes:
    fields = {
        "ver": "1.0",
        "id": f"event-{number}",
        "product": "ECS",
        "name": "Disk:Stalled:Executing" if number % 2 else "Instance:StateChange",
        "level": "CRITICAL" if number % 2 else "INFO",
        "resourceId": f"acs:ecs:cn-hangzhou:1690:disk/d-{number}",
        "userId": "1690",
        "regionId": REGIONS[number % 2],
        "eventTime": "20190409T121826.922+0800",
        "content": {"diskId": f"d-{number}"} if content is None else content,
    }
    return msgspec.json.encode(fields)


def record(topic: str, offset: int, value: bytes, headers: Headers = ()) -> Record:
    return Record(topic, 0, offset, START + 1000 * offset, b"key", headers, value)


class Archive:
    """An archive in a folder that a test adds segments to and queries."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder / "archive")
        self.cache = folder / "cache"
        self.logs = folder / "logs"

    def add(self, topic: str, values: Sequence[bytes], headers: Headers = ()) -> None:
        tail = find_tail(self.store, topic, 0) or Tail("log", topic, 0)
        start = tail.expected_offset
        records = [record(topic, start + index, value, headers) for index, value in enumerate(values)]
        assert isinstance(append_segment(self.store, tail, Draft(records, start + len(values))), Stored)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        result = query(self.store, sql, cache=self.cache, logs=self.logs)
        return [tuple(row.values()) for row in result.rows()]

    def parquet(self) -> dict[str, int]:
        """Returns the files of the cache, with their inodes."""
        return {path.name: path.stat().st_ino for path in self.cache.rglob("*.parquet")}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def verdict(number: int, state: VerdictState, *tries: Attempt) -> bytes:
    attempts = Attempts()
    for attempt in tries:
        attempts = attempts.plus(attempt)
    source = str(Position("events.ecs.disk", 0, number))
    resource = f"acs:ecs:cn-hangzhou:1690:disk/d-{number}"
    return encode_verdict(
        Verdict(
            delivery=f"id-{number}",
            state=state,
            source=source,
            subscription="sub",
            target="ops",
            resource=resource,
            at=START + number,
            configuration=3,
            attempts=attempts,
            exhausted=Exhausted.REJECTED if state is VerdictState.DEAD else None,
        )
    )


def fill(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(number) for number in range(4)])
    archive.add("verdicts", [verdict(0, VerdictState.DELIVERED)])
    archive.add("dead-letters", [event(1)])
    archive.add("rejects", [b"nonsense"], (("reason", b"level: missing"),))
    archive.add("executions", [command(0), file(1)])
    deliver(archive, [0])
    deliver_records(archive, [command(0)])


def deliver_records(archive: Archive, values: Sequence[bytes]) -> None:
    async def send() -> None:
        writer = LogWriter(archive.logs / "ops" / "runs", ManualClock(START), RECORD_SUFFIX)
        sink = LogsSink(writer, record_line)
        source = Position("executions", 0, 0)
        await sink.deliver(
            [
                Delivery(
                    id=f"id-{number}",
                    source=source,
                    subscription="sub",
                    target="logs",
                    resource="i-1",
                    event=value,
                    event_time=START,
                    configuration=1,
                )
                for number, value in enumerate(values)
            ]
        )
        await sink.close()

    asyncio.run(send())


def deliver(archive: Archive, numbers: Sequence[int]) -> None:
    async def send() -> None:
        sink = LogsSink(LogWriter(archive.logs / "project" / "store", ManualClock()), event_line)
        await sink.deliver([delivery(number) for number in numbers])
        await sink.close()

    asyncio.run(send())


def encoded_line(number: int) -> bytes:
    texts = dict.fromkeys(set(LogLine.__struct_fields__) - {"time", "delivery"}, "")
    return msgspec.json.encode(LogLine(time=START, delivery=f"id-{number}", **texts)) + b"\n"


def delivery(number: int) -> Delivery:
    source = Position("events.ecs.disk", 0, number)
    resource = f"acs:ecs:cn-hangzhou:1690:disk/d-{number}"
    return Delivery(
        id=f"id-{number}",
        source=source,
        subscription="sub",
        target="ops",
        resource=resource,
        event=event(number),
        event_time=START,
        configuration=1,
    )

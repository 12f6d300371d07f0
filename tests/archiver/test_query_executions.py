"""SQL over execution records, in the archive and in the log store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from archiver.format.segment import Draft
from archiver.read.query import query
from archiver.write.chain import Tail, append_segment
from heliograph.bus.base import Bus
from heliograph.bus.memory import MemoryBus
from schemas.record import NewRecord, Record, TopicPartition
from schemas.rejects import rejected_record
from tests.archiver.querying import START, Archive, archive, deliver, deliver_records
from tests.executions import command, file

__all__ = ["archive"]


def test_executions_have_columns_of_their_own_types(archive: Archive) -> None:
    running = {"InvocationStatus": "Running", "FinishedTime": "", "ExitCode": None}
    values = [
        command(0, **running),
        command(0, Output="disk full"),
        command(0, Output="late"),
        command(1, **running),
        command(1, Output="more", **running),
        file(2),
        file(3, InvocationStatus="Failed", ErrorCode="FileAlreadyExists", ErrorInfo="there"),
        b"{}",
        b"nonsense",
    ]
    archive.add("executions", values)
    found = archive.ask(
        "SELECT InvokeId, Repeats, Output, ExitCode, CallerUid, StartTime, FinishedTime, StopTime, source"
        " FROM executions ORDER BY InvokeId"
    )
    ended = datetime.fromisoformat("2021-09-26T05:47:20")
    assert found == [
        ("t-0", 1, "disk full", 0, 1609982529920000, ended, ended, None, "executions:0:1"),
        ("t-1", 1, "more", None, 1609982529920000, ended, None, None, "executions:0:4"),
    ]
    files = "SELECT InvokeId, Overwrite, ErrorCode, FinishTime FROM files ORDER BY InvokeId"
    sent = datetime.fromisoformat("2021-09-28T05:31:04")
    assert archive.ask(files) == [("f-2", True, None, sent), ("f-3", True, "FileAlreadyExists", sent)]


def test_records_of_one_millisecond_keep_the_order_of_their_offsets(archive: Archive) -> None:
    running = {"InvocationStatus": "Running", "FinishedTime": "", "ExitCode": None}
    values = [command(0, Output=text, **running) for text in ("a", "ab")]
    values += [command(1, Output=text) for text in ("first", "late")]
    records = [Record("executions", 0, offset, START, b"i", (), value) for offset, value in enumerate(values)]
    append_segment(archive.store, Tail("log", "executions", 0), Draft(records, len(records)))
    assert archive.ask("SELECT Output FROM executions ORDER BY Output") == [("ab",), ("first",)]


def test_rejected_records_are_no_executions_and_hide_none(archive: Archive) -> None:
    refused = command(0, Nonsense=1)
    archive.add("executions", [refused, command(0, Output="right"), command(1, Nonsense=1)])
    reject = rejected_record(refused, "Nonsense: is not a field", "executions executions:0:0")
    archive.add("rejects", [reject.value], reject.headers)
    assert archive.ask("SELECT InvokeId, Output FROM executions WHERE InvokeId = 't-0'") == [("t-0", "right")]
    assert archive.ask("SELECT count(*) FROM executions") == [(2,)], "t-1 is not known as refused yet"


def test_logs_of_executions_are_found_by_words_ids_and_state(archive: Archive) -> None:
    failed = {"InvocationStatus": "Failed", "ErrorCode": "ExitCodeNonzero", "ErrorInfo": "not zero"}
    values = [command(0, Output="disk full on /var"), command(1, ExitCode=3, **failed), file(2)]
    deliver_records(archive, [*values, values[0]])
    deliver(archive, [0])
    assert archive.ask("SELECT count(*) FROM logs") == [(1,)]
    ask = "SELECT InvokeId, InstanceId, ExitCode, project, logstore, time FROM execution_logs WHERE "
    when = datetime.fromtimestamp(START / 1000, UTC).replace(tzinfo=None)
    assert archive.ask(f"{ask} Output ILIKE '%DISK FULL%'") == [("t-0", "i-0", "0", "ops", "runs", when)]
    assert archive.ask(f"{ask} InvocationStatus = 'Failed'") == [("t-1", "i-1", "3", "ops", "runs", when)]
    assert archive.ask(f"{ask} FileName IS NOT NULL") == [("f-2", "i-2", None, "ops", "runs", when)]
    assert archive.ask("SELECT count(*) FROM execution_logs WHERE time >= TIMESTAMP '2024-01-01'") == [(0,)]


def test_records_not_archived_yet_are_read_from_the_bus_for_execution_views_only(archive: Archive) -> None:
    bus = MemoryBus(partitions=1)
    values = [command(0), command(1, Output="first"), b"{}", command(1, Output="late"), file(2)]
    bus.append([NewRecord("executions", value, b"i") for value in values])
    partition = TopicPartition("executions", 0)
    append_segment(archive.store, Tail(bus.log_id, *partition), Draft(bus.read(partition, 0, 1).records, 1))
    bus.truncate(partition, 1)
    opened: list[str] = []

    def ask(sql: str) -> list[tuple[Any, ...]]:
        def open_bus() -> Bus:
            opened.append(sql)
            return bus

        return [
            tuple(row.values()) for row in query(archive.store, sql, cache=archive.cache, bus=open_bus).rows()
        ]

    assert ask("SELECT count(*) FROM records") == [(1,)]
    assert opened == []
    assert ask("SELECT InvokeId, Output FROM Executions ORDER BY InvokeId") == [
        ("t-0", "iZbp1hd5ztmab9cgc0****\n"),
        ("t-1", "first"),
    ]
    assert ask("SELECT InvokeId FROM files") == [("f-2",)]
    assert len(opened) == 2


def test_a_query_of_other_views_does_not_open_the_bus(archive: Archive) -> None:
    def bus() -> Bus:
        raise AssertionError("the bus was opened")

    sql = "select name, d.target from events join deliveries d using (source)"
    assert list(query(archive.store, sql, cache=archive.cache, logs=archive.logs, bus=bus).rows()) == []


def test_an_archive_of_another_bus_hides_no_record_of_this_one(archive: Archive) -> None:
    bus = MemoryBus(partitions=1)
    bus.append([NewRecord("executions", command(number), b"i") for number in (0, 1)])
    archive.add("executions", [command(2), command(3)])
    result = query(archive.store, "SELECT InvokeId FROM executions", cache=archive.cache, bus=lambda: bus)
    assert {row["InvokeId"] for row in result.rows()} == {"t-0", "t-1", "t-2", "t-3"}

"""The views over an archive and the log store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archiver.read import query_cache
from archiver.read.query import query
from archiver.read.query_views import VIEWS
from schemas.clock import ManualClock
from schemas.delivery import (
    Attempt,
    Attempts,
    Reason,
    ReasonCode,
    Verdict,
    VerdictState,
    delivery_headers,
    encode_verdict,
)
from schemas.errors import ArchiveBroken, InputError
from sinks.logs.events import LogsSink, LogWriter, event_line
from tests.archiver.querying import (
    START,
    Archive,
    archive,
    deliver,
    delivery,
    encoded_line,
    event,
    fill,
    verdict,
)

__all__ = ["archive"]


def test_an_empty_archive_has_every_view_and_no_rows(archive: Archive) -> None:
    full = Archive(archive.cache.parent / "full")
    fill(full)
    for view in VIEWS:
        assert archive.ask(f"SELECT * FROM {view}") == []
        assert full.ask(f"SELECT count(*) > 0 FROM {view}") == [(True,)]
        assert archive.ask(f"DESCRIBE {view}") == full.ask(f"DESCRIBE {view}")
    assert {name for (name,) in archive.ask("SHOW TABLES")} == set(VIEWS)


def test_events_have_their_fields_as_columns(archive: Archive) -> None:
    value = event(1)
    archive.add("events.ecs.disk", [value], (("h", b"\xff"), ("h", b"second")))
    [row] = query(archive.store, "SELECT * FROM events", cache=archive.cache).rows()
    assert row == {
        "time": datetime.fromtimestamp(START / 1000, UTC).replace(tzinfo=None),
        "eventTime": datetime(2019, 4, 9, 4, 18, 26, 922_000),  # noqa: DTZ001 - as DuckDB has it
        "product": "ECS",
        "name": "Disk:Stalled:Executing",
        "level": "CRITICAL",
        "resourceId": "acs:ecs:cn-hangzhou:1690:disk/d-1",
        "regionId": "cn-beijing",
        "userId": "1690",
        "id": "event-1",
        "content": '{"diskId":"d-1"}',
        "topic": "events.ecs.disk",
        "partition": 0,
        "epoch": 0,
        "offset": 0,
        "source": "events.ecs.disk:0:0",
        "headers": [("h", b"\xff")],
        "value": value,
    }


def test_a_query_counts_over_several_segments_and_topics(archive: Archive) -> None:
    for start in (0, 10, 20):
        archive.add("events.ecs.disk", [event(number) for number in range(start, start + 10)])
    archive.add("events.other", [event(1)])
    assert archive.ask("SELECT level, count(*) FROM events GROUP BY level ORDER BY level") == [
        ("CRITICAL", 16),
        ("INFO", 15),
    ]
    assert archive.ask("SELECT count(*) FROM records") == [(31,)]


def test_time_is_a_timestamp_column(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(number) for number in range(10)])
    within = (
        "SELECT id FROM events WHERE time >= TIMESTAMP '2023-11-14 22:13:24' AND time < '2023-11-14 22:13:26'"
    )
    assert archive.ask(within) == [("event-4",), ("event-5",)]
    assert archive.ask("SELECT count(*) FROM events WHERE time < now()") == [(10,)]
    assert archive.ask("SELECT DISTINCT eventTime::DATE::VARCHAR FROM events") == [("2019-04-09",)]
    assert archive.ask("SELECT DISTINCT eventTime::VARCHAR FROM events") == [("2019-04-09 04:18:26.922",)]


def test_content_given_as_text_is_json_too(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(0), event(1, '{"diskId": "as text"}'), event(2, "no JSON")])
    sql = "SELECT content ->> 'diskId' FROM events ORDER BY \"offset\""
    assert archive.ask(sql) == [("d-0",), ("as text",), (None,)]


def test_a_record_that_is_no_event_fails_no_query(archive: Archive) -> None:
    values = [event(0), b"", b"\xff\x00", b"[1]", b'{"name":', b"null", event(1)]
    archive.add("events.other", values)
    assert archive.ask('SELECT id, value FROM events ORDER BY "offset"') == [
        ("event-0" if value == values[0] else "event-1" if value == values[-1] else None, value)
        for value in values
    ]
    assert archive.ask("SELECT count(content), count(eventTime) FROM events") == [(2, 2)]


def test_deliveries_are_verdicts_reduced_by_precedence(archive: Archive) -> None:
    refused = Attempt(at=START, took=0.5, reason=Reason(ReasonCode.REFUSED, "404 Not Found", 404))
    delivered = Attempt(at=START + 5, took=0.1, reason=None, receipt="receipt-1")
    archive.add("verdicts", [verdict(1, VerdictState.DEAD, refused), verdict(2, VerdictState.MUTED)])
    archive.add(
        "verdicts", [verdict(1, VerdictState.DELIVERED, refused, delivered), verdict(2, VerdictState.MUTED)]
    )
    sql = "SELECT delivery, state, tries, reason, receipt, exhausted FROM deliveries ORDER BY delivery"
    assert archive.ask(sql) == [
        ("id-1", "delivered", 2, None, "receipt-1", ""),
        ("id-2", "muted", 0, None, None, ""),
    ]
    sql = "SELECT source, tries, reason, detail, status, exhausted, ended FROM verdicts WHERE state = 'dead'"
    ended = datetime.fromtimestamp((START + 1) / 1000, UTC).replace(tzinfo=None)
    assert archive.ask(sql) == [
        ("events.ecs.disk:0:1", 1, "refused", "404 Not Found", 404, "rejected", ended)
    ]


def test_verdicts_have_columns_for_redrive_dropped_by_and_why(archive: Archive) -> None:
    answered = Attempt(at=START, took=0.1, reason=None, receipt="ok", status=202, address="192.0.2.7:443")
    failed = Attempt(at=START, took=0.1, reason=Reason(ReasonCode.REFUSED, "no", 404, "192.0.2.8:443"))
    told = [("id-1", "delivered", 202, "192.0.2.7:443"), ("id-2", "dead", 404, "192.0.2.8:443")]
    archive.add(
        "verdicts", [verdict(1, VerdictState.DELIVERED, answered), verdict(2, VerdictState.DEAD, failed)]
    )
    assert archive.ask("SELECT delivery, state, status, address FROM deliveries ORDER BY delivery") == told
    dropped = Verdict(
        delivery="id-3",
        state=VerdictState.DROPPED,
        source="s",
        subscription="sub",
        target="ops",
        resource="r",
        at=START,
        configuration=3,
        attempts=Attempts(),
        redrive="r-1",
        by="jo@host",
        why="old",
    )
    archive.add("verdicts", [encode_verdict(dropped)])
    sql = "SELECT redrive, dropped_by, why FROM verdicts ORDER BY delivery"
    assert archive.ask(sql) == [("", "", ""), ("", "", ""), ("r-1", "jo@host", "old")]


def test_events_and_deliveries_join_by_source(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(number) for number in range(3)])
    archive.add("verdicts", [verdict(number, VerdictState.DELIVERED) for number in range(1, 3)])
    sql = "SELECT id, state FROM events LEFT JOIN deliveries USING (source) ORDER BY id"
    assert archive.ask(sql) == [("event-0", None), ("event-1", "delivered"), ("event-2", "delivered")]


def test_dead_letters_and_rejects_have_a_reason(archive: Archive) -> None:
    headers = (
        *delivery_headers(delivery(1)),
        ("errorCode", b"refused"),
        ("errorMessage", b"404 Not Found"),
        ("exhaustedRetryCondition", b"rejected"),
        ("retryAttempts", b"1"),
    )
    archive.add("dead-letters", [event(1)], headers)
    archive.add("rejects", [b"\xff", b"{}"], (("reason", b"level: missing"), ("where", b"edge, item 1")))
    sql = "SELECT delivery, source, subscription, target, reason, detail, exhausted, tries, redrive, id, value FROM dead_letters"
    assert archive.ask(sql) == [
        (
            "id-1",
            "events.ecs.disk:0:1",
            "sub",
            "ops",
            "refused",
            "404 Not Found",
            "rejected",
            1,
            "",
            "event-1",
            event(1),
        )
    ]
    assert archive.ask("SELECT reason, refused_by, input, value FROM rejects") == [
        ("level: missing", "edge, item 1", "\\xFF", b"\xff"),
        ("level: missing", "edge, item 1", "{}", b"{}"),
    ]


def test_headers_and_verdicts_that_are_not_text_fail_no_query(archive: Archive) -> None:
    archive.add("rejects", [b"x"], (("reason", b"cut \xe7"),))
    archive.add("dead-letters", [event(1)], (("errorMessage", b"\xff"),))
    archive.add("verdicts", [b"\xff", b"{", b"[]", verdict(1, VerdictState.MUTED)])
    assert archive.ask("SELECT reason FROM rejects") == [("cut \\xE7",)]
    assert archive.ask("SELECT detail, delivery FROM dead_letters") == [("\\xFF", None)]
    assert archive.ask("SELECT delivery FROM deliveries WHERE delivery IS NOT NULL") == [("id-1",)]


def test_logs_have_one_row_for_each_delivery(archive: Archive) -> None:
    deliver(archive, [0, 1])
    deliver(archive, [1, 2])
    sql = "SELECT project, logstore, delivery, name, event ->> 'id' FROM logs ORDER BY delivery"
    assert archive.ask(sql) == [
        ("project", "store", "id-0", "Instance:StateChange", "event-0"),
        ("project", "store", "id-1", "Disk:Stalled:Executing", "event-1"),
        ("project", "store", "id-2", "Instance:StateChange", "event-2"),
    ]
    assert archive.ask("SELECT DISTINCT time, resourceId FROM logs WHERE delivery = 'id-0'") == [
        (datetime.fromtimestamp(START / 1000, UTC).replace(tzinfo=None), "acs:ecs:cn-hangzhou:1690:disk/d-0")
    ]


@pytest.mark.parametrize("tail", [b"\x28\xb5\x2f\xfd", b"\0" * 512, b"rubbish"])
def test_a_log_file_cut_off_by_a_crash_is_read_to_its_last_whole_frame(archive: Archive, tail: bytes) -> None:
    deliver(archive, [0, 1])
    [path] = archive.logs.rglob("*.zst")
    path.write_bytes(path.read_bytes() + tail)
    assert archive.ask("SELECT count(*) FROM logs") == [(2,)]


def test_any_cut_of_a_log_file_leaves_the_frames_before_it(archive: Archive) -> None:
    writer = LogWriter(archive.logs / "project" / "store", ManualClock())
    path = writer.append(encoded_line(0))
    ends = [0, path.stat().st_size]
    for number in range(1, 3):
        assert writer.append(encoded_line(number)) == path
        ends.append(path.stat().st_size)
    writer.close()
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        kept = [line.delivery for line in query_cache.read_log_lines(path)]
        acknowledged = sum(end <= cut for end in ends) - 1
        assert kept[:acknowledged] == [f"id-{number}" for number in range(acknowledged)]
        assert len(kept) <= acknowledged + 1


def test_a_log_file_that_grew_is_read_again(archive: Archive) -> None:
    writer = LogWriter(archive.logs / "project" / "store", ManualClock())
    for number in range(3):
        asyncio.run(LogsSink(writer, event_line).deliver([delivery(number)]))
        assert archive.ask("SELECT count(*) FROM logs") == [(number + 1,)]
    writer.close()


def test_a_damaged_segment_is_named(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(0)])
    [info] = archive.store.list("topics/")
    body = archive.store.get(info.key)
    archive.store.put(info.key, body[:-20] + bytes(20))
    with pytest.raises(ArchiveBroken, match=r"events\.ecs\.disk\+0\+"):
        archive.ask("SELECT 1")


REFUSED = [
    *("", "-- nothing", "SELECT 1; SELECT 2", "CREATE TABLE t AS SELECT 1", "DROP VIEW events"),
    *("SET enable_external_access = true", "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list"),
    *("ATTACH ':memory:' AS other", "COPY (SELECT 1) TO 'here.csv'", "EXPORT DATABASE 'here'"),
    *("INSERT INTO events VALUES (1)", "PREPARE p AS SELECT 1", "CALL pragma_version()", "CHECKPOINT"),
]


@pytest.mark.parametrize("sql", REFUSED)
def test_only_one_select_is_run(archive: Archive, sql: str) -> None:
    with pytest.raises(InputError, match="expected one SELECT"):
        archive.ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://example.com/a.parquet')",
        "SELECT * FROM query('COPY events TO ''/tmp/out''')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/heliograph-query-test.csv'",
        "SELECT * FROM archive",
    ],
)
def test_a_query_reaches_no_other_file_and_no_network(archive: Archive, sql: str) -> None:
    with pytest.raises(InputError, match=r"^query: "):
        archive.ask(sql)


def test_nothing_can_be_written_into_the_cache(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(0)])
    archive.ask("SELECT 1")
    [path] = archive.cache.rglob("*.parquet")
    before = path.read_bytes()
    for sql in (
        f"COPY events TO '{path}'",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{path}'",
        f"WITH x AS (COPY (SELECT 1) TO '{path}') SELECT * FROM x",
        f"SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{path}') SELECT * FROM x)",
        f"SELECT 1) TO '{path}'; COPY (SELECT 1",
    ):
        with pytest.raises(InputError):
            archive.ask(sql)
    assert path.read_bytes() == before


def test_errors_are_one_line_with_the_place(archive: Archive) -> None:
    for sql, said in (
        ("SELEC 1", "LINE 1: SELEC 1"),
        ("SELECT 1,\nnothing FROM events;", "LINE 2: nothing"),
    ):
        with pytest.raises(InputError) as caught:
            archive.ask(sql)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="Conversion Error"):
        archive.ask("SELECT CAST(range::VARCHAR || 'x' AS INTEGER) FROM range(3)")


def test_a_result_names_its_columns_and_types(archive: Archive) -> None:
    result = query(
        archive.store,
        "SELECT 1 AS a, 'x' AS a, now() AS t, a AS a_2 FROM (SELECT 1 AS a)",
        cache=archive.cache,
    )
    assert result.columns == ("a", "a_2", "t", "a_2_2")
    assert result.types == ("INTEGER", "VARCHAR", "TIMESTAMP WITH TIME ZONE", "INTEGER")
    [row] = result.rows()
    assert row["t"].utcoffset().total_seconds() == 0


def test_a_folder_with_a_quote_in_its_name_is_queried(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "it's=1")
    archive.add("events.ecs.disk", [event(0)])
    assert archive.ask("SELECT id FROM events") == [("event-0",)]


def test_a_query_leaves_no_temporary_file(archive: Archive) -> None:
    fill(archive)
    archive.ask("SELECT * FROM events")
    assert {path.suffix for path in archive.cache.rglob("*") if path.is_file()} == {".parquet"}


def test_a_time_outside_of_pythons_range_is_an_input_error(archive: Archive) -> None:
    with pytest.raises(InputError, match="cast it to VARCHAR"):
        archive.ask("SELECT epoch_ms(253402300800000 * 10)")

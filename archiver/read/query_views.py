"""The views that queries read, as DuckDB's SQL over the Parquet files of `archiver.read.query_cache`.

Times are TIMESTAMP in UTC. `source` is the position of an event, `topic:partition:offset`, by which events, verdicts,
deliveries, dead letters and logs are joined.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic.alias_generators import to_pascal

from archiver.format.parquet import Columns
from archiver.format.rows import RECORDS
from archiver.read.query_cache import LOGS, RECORD_LOGS
from schemas.delivery import VerdictState
from schemas.execution import CommandRecord, FileRecord, RecordState
from schemas.topics import DEAD_LETTERS, EVENTS, EXECUTIONS, REJECTS, VERDICTS

_TEXT_OF_BYTES = "CREATE MACRO text(bytes) AS coalesce(try(decode(bytes)), bytes::VARCHAR)"
"""Shows bytes that are not UTF-8 with escapes, so that one bad record does not fail a query."""

VIEWS = (
    "events",
    "deliveries",
    "verdicts",
    "dead_letters",
    "rejects",
    "executions",
    "files",
    "logs",
    "execution_logs",
    "records",
)
EXECUTION_VIEWS = ("executions", "files")
"""Views that also show records that are not archived yet."""

_VERDICT = (
    '{"delivery": "VARCHAR", "state": "VARCHAR", "source": "VARCHAR", "subscription": "VARCHAR",'
    ' "target": "VARCHAR", "resource": "VARCHAR", "at": "BIGINT", "exhausted": "VARCHAR", "redrive": "VARCHAR",'
    ' "by": "VARCHAR", "why": "VARCHAR", "attempts": "JSON"}'
)
_STATES = ", ".join(f"'{state}'" for state in VerdictState)

_EVENTS = """
SELECT time, try_strptime(event ->> 'eventTime', '%Y%m%dT%H%M%S.%g%z')::TIMESTAMP AS eventTime,
    product, name, level, resourceId, regionId, userId, id,
    CASE json_type(event, '$.content')
        WHEN 'VARCHAR' THEN try_cast(event ->> 'content' AS JSON) ELSE event -> 'content' END AS content,
    topic, partition, epoch, "offset", concat_ws(':', topic, partition, "offset") AS source, headers, value
FROM (SELECT *, try_cast(try(decode(value)) AS JSON) AS event FROM {records})
"""
_RECORDS = """
SELECT * FROM {records}
"""
_VERDICTS = """
SELECT time, delivery, state, source, subscription, target, resourceId, ended, tries,
    last ->> '$.reason.code' AS reason, last ->> '$.reason.detail' AS detail,
    coalesce(last ->> '$.reason.status', last ->> '$.status')::INTEGER AS status,
    coalesce(last ->> '$.reason.address', last ->> '$.address') AS address,
    last ->> '$.receipt' AS receipt, exhausted, redrive, dropped_by, why, attempts,
    topic, partition, epoch, "offset"
FROM (
    SELECT *, v.delivery, v.state, v.source, v.subscription, v.target, v.resource AS resourceId,
        epoch_ms(v.at) AS ended, coalesce(v.exhausted, '') AS exhausted, coalesce(v.redrive, '') AS redrive,
        coalesce(v."by", '') AS dropped_by, coalesce(v.why, '') AS why, v.attempts,
        coalesce((v.attempts ->> '$.count')::INTEGER, 0) AS tries, v.attempts -> '$.last[#-1]' AS last
    FROM (
        SELECT *, json_transform(try_cast(text(value) AS JSON), '{form}') AS v
        FROM (SELECT time, topic, partition, epoch, "offset", value FROM {records}))
)
"""
_DELIVERIES = """
SELECT * EXCLUDE (topic, partition, epoch, "offset") FROM verdicts WHERE delivery IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY delivery ORDER BY list_position([{states}], state), time, partition, "offset") = 1
"""
_DEAD_LETTERS = """
SELECT time, text(headers['delivery']) AS delivery, text(headers['source']) AS source,
    text(headers['subscription']) AS subscription, text(headers['target']) AS target,
    text(headers['errorCode']) AS reason, text(headers['errorMessage']) AS detail,
    text(headers['exhaustedRetryCondition']) AS exhausted,
    try_cast(text(headers['retryAttempts']) AS INTEGER) AS tries,
    coalesce(text(headers['redrive']), '') AS redrive,
    product, name, level, resourceId, regionId, userId, id, topic, partition, epoch, "offset", headers, value
FROM {records}
"""
_REJECTS = """
SELECT time, text(headers['reason']) AS reason, text(headers['where']) AS refused_by, text(value) AS input,
    topic, partition, epoch, "offset", headers, value
FROM {records}
"""
_LOGS = """
SELECT * REPLACE (try_cast(event AS JSON) AS event) FROM {logs}
QUALIFY row_number() OVER (PARTITION BY project, logstore, delivery ORDER BY time) = 1
"""
_EXECUTIONS = """
SELECT {columns}, time, topic, partition, epoch, "offset", concat_ws(':', topic, partition, "offset") AS source, value
FROM (
    SELECT *, json_transform(try_cast(text(value) AS JSON), '{form}') AS r
    FROM (SELECT time, topic, partition, epoch, "offset", value FROM {records}) AS record
    ANTI JOIN rejects ON rejects.value = record.value
        AND rejects.refused_by = concat('executions ', record.topic, ':', record.partition, ':', record."offset"))
WHERE r.{mark} IS NOT NULL AND r.InvokeId IS NOT NULL AND r.InstanceId IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY {key} ORDER BY {direction} DESC, {direction} * epoch_ms(time), {direction} * "offset") = 1
"""
"""One row for each key: the first final record, or the last record if none is final; without those that the role
`executions` rejected."""
_EXECUTION_LOGS = """
SELECT * FROM {logs}
QUALIFY row_number() OVER (
    PARTITION BY project, logstore, InvokeId, InstanceId, Repeats ORDER BY time, delivery) = 1
"""
_COLUMNS = {
    **dict.fromkeys(("ResourceOwnerUid", "CallerUid", "Timeout", "Repeats", "Dropped", "ExitCode"), "BIGINT"),
    "Overwrite": "BOOLEAN",
}
_NOT_FINAL = ", ".join(f"'{state}'" for state in RecordState if not state.final)
_DIRECTION = f"CASE WHEN r.InvocationStatus IN ({_NOT_FINAL}) THEN -1 ELSE 1 END"
"""Sorts final records forward, and the others backward."""


def view_statements(
    segments: Mapping[str, Sequence[Path]],
    logs: Sequence[Path],
    record_logs: Sequence[Path] = (),
    recent: Sequence[Path] = (),
) -> Iterator[str]:
    """Returns the SQL statements that create the views, in order.

    `segments`: the Parquet files of each topic; `logs`, `record_logs`: those of the log store; `recent`: those of
    execution records that were not archived when they were read; some may be in `segments` too.
    """

    def records(pattern: str) -> str:
        paths = [path for topic, found in segments.items() if fnmatchcase(topic, pattern) for path in found]
        return _table(paths, RECORDS)

    executions = _table([*segments.get(EXECUTIONS, ()), *recent], RECORDS)

    definitions = {
        "records": _RECORDS.format(records=records("*")),
        "events": _EVENTS.format(records=records(f"{EVENTS}*")),
        "verdicts": _VERDICTS.format(records=records(VERDICTS), form=_VERDICT),
        "deliveries": _DELIVERIES.format(states=_STATES),
        "dead_letters": _DEAD_LETTERS.format(records=records(DEAD_LETTERS)),
        "rejects": _REJECTS.format(records=records(REJECTS)),
        "executions": _executions(executions, CommandRecord, "CommandId"),
        "files": _executions(executions, FileRecord, "FileName"),
        "logs": _LOGS.format(logs=_table(logs, LOGS)),
        "execution_logs": _EXECUTION_LOGS.format(logs=_table(record_logs, RECORD_LOGS)),
    }
    yield _TEXT_OF_BYTES
    for name, definition in definitions.items():
        yield f"CREATE VIEW {name} AS {definition}"


def _executions(records: str, model: type[CommandRecord | FileRecord], mark: str) -> str:
    """Returns the view of one kind of records: a column for each field; empty times are null."""
    names = [to_pascal(name) for name in model.model_fields]
    return _EXECUTIONS.format(
        columns=", ".join(
            f"try_cast(r.{name} AS TIMESTAMP) AS {name}" if name.endswith("Time") else f"r.{name}"
            for name in names
        ),
        form=json.dumps({name: _COLUMNS.get(name, "VARCHAR") for name in names}),
        records=records,
        mark=mark,
        key=", ".join(f"r.{name}" for name in ("InvokeId", "InstanceId", "Repeats") if name in names),
        direction=_DIRECTION,
    )


def _table(paths: Iterable[Path], columns: Columns) -> str:
    """Returns the source of a view: the files, or no rows with the same columns if there are none."""
    names = ", ".join(sql_text(str(path)) for path in paths)
    if names:
        selected = ", ".join(f'"{name}"' for name in columns)
        return f"(SELECT {selected} FROM read_parquet([{names}], hive_partitioning = false, union_by_name = true))"  # noqa: S608
    nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"(SELECT {nothing} WHERE false)"


def sql_text(text: str) -> str:
    """Quotes a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"

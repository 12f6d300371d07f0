"""SQL over the archive and the local log store, with DuckDB in this process. Queries cannot change anything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import duckdb

from archiver.read.query_cache import QueryCache
from archiver.read.query_views import EXECUTION_VIEWS, VIEWS, sql_text, view_statements
from heliograph.bus.base import Bus
from heliograph.store.base import ObjectStore
from schemas.errors import InputError, StoreUnavailable

_ROWS = 10_000
_MEMORY = "50%"
"""Memory limit, as a share of the machine's or container's memory. Larger queries spill to at most half of the free disk
space, since the bus may use the same disk."""


class QueryResult:
    """The answer to a query. `types` are DuckDB's names; times are UTC, JSON is text, BLOB is bytes.

    A second column of the same name is called `name_2`, and so on.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> None:
        self._connection = connection
        self._batches: Iterable[Any] = relation.to_arrow_reader(_ROWS)
        self.columns = _distinct(relation.columns)
        self.types = tuple(map(str, relation.types))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Returns the rows, once, in constant memory while the query runs. Raises as `query` does."""
        try:
            for batch in self._batches:
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield dict(zip(self.columns, values, strict=True))
        except (duckdb.Error, OSError) as error:
            raise _translated(error) from error
        except (ValueError, OverflowError) as error:
            raise InputError(f"query: a value cannot be shown ({error}); cast it to VARCHAR") from error
        finally:
            self._connection.close()


def query(
    store: ObjectStore,
    sql: str,
    *,
    cache: Path,
    logs: Path | None = None,
    bus: Callable[[], Bus] | None = None,
) -> QueryResult:
    """Runs one SELECT over the views (`archiver.read.query_views.VIEWS`) of the archive and of the log store in `logs`.

    `cache`: a folder for a copy of each segment as Parquet, best on a fast disk. `bus`: opens the bus, if the query asks
    for execution records, for those not archived yet. The query cannot reach other files or the network, or write.
    Raises InputError with DuckDB's message and line for SQL that cannot be run, ArchiveBroken, StoreError, BusError.
    """
    sql = _one_select(sql)
    files = QueryCache(cache, store, logs)
    connection = _connect(files.spill_folder())
    try:
        recent = files.recent_executions(bus()) if bus and _may_ask_for_executions(sql) else []
        segments, log_files, record_logs = files.segments(), files.logs(), files.record_logs()
        archived = [path for paths in segments.values() for path in paths]
        files.clean([*recent, *log_files, *record_logs, *archived])
        for statement in view_statements(segments, log_files, record_logs, recent):
            connection.execute(statement)
        _lock(connection, files.folder)
        _check(connection, sql)
        return QueryResult(connection, connection.sql(sql))
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.Error):
            raise _translated(error) from error
        raise


def _one_select(sql: str) -> str:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _translated(error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError(f"query: expected one SELECT over {', '.join(VIEWS)}; a query changes nothing")
    return sql.strip().removesuffix(";")


def _may_ask_for_executions(sql: str) -> bool:
    """Returns True if the SELECT has the name of a view of executions; DuckDB cannot tell before the views exist."""
    return any(word in EXECUTION_VIEWS for word in re.findall(r"\w+", sql.casefold()))


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises InputError for a SELECT that cannot run, or that writes: `WITH … AS (COPY …)` counts as a SELECT and could
    write to the cache, but DuckDB refuses it below the top level."""
    try:
        connection.execute(f"EXPLAIN SELECT * FROM (\n{sql}\n)").fetchall()  # noqa: S608 - SQL is what it takes
    except duckdb.Error as error:
        text = re.sub(
            r"^LINE (\d+):", lambda found: f"LINE {int(found[1]) - 1}:", str(error), flags=re.MULTILINE
        )
        raise _translated(error, text) from error


def _connect(spill: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": str(spill),
            "memory_limit": _MEMORY,
            "max_temp_directory_size": f"{shutil.disk_usage(spill.parent).free // 2048}KiB",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Limits the connection to the files of the cache; SQL cannot lift the limit."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"SET allowed_directories = [{sql_text(f'{folder}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    distinct: dict[str, None] = {}
    for name in names:
        candidates = (f"{name}_{number}" for number in count(2))
        distinct[name if name not in distinct else next(one for one in candidates if one not in distinct)] = (
            None
        )
    return tuple(distinct)


def _translated(error: Exception, text: str = "") -> InputError | StoreUnavailable:
    text = " ".join(line.strip() for line in (text or str(error)).splitlines() if line.strip(" ^"))
    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException, OSError)):
        return StoreUnavailable(f"query: {text}")
    return InputError(f"query: {text}")

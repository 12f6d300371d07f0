"""Writes and reads Parquet files (pyarrow, zstd), for queries and for compaction."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyarrow has no types; only this module calls it

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ArchiveBroken

ColumnType = Literal["TIMESTAMP", "VARCHAR", "INTEGER", "BIGINT", "BLOB", "MAP(VARCHAR, BLOB)"]
"""Types of columns, by their names in DuckDB. Rows hold them as milliseconds, text, integers, bytes and mappings."""
Columns = Mapping[str, ColumnType]

_TYPES: Mapping[ColumnType, Any] = {
    "TIMESTAMP": pa.timestamp("ms"),
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "BLOB": pa.binary(),
    "MAP(VARCHAR, BLOB)": pa.map_(pa.string(), pa.binary()),
}
_GROUP = 20_000
"""Rows of a row group, which is held in memory."""


def write(path: Path, columns: Columns, rows: Iterator[Sequence[Any]]) -> None:
    """Writes a file under a temporary name and renames it, so that nobody reads a part of it. Raises OSError."""
    with _placed(path) as temporary:
        _write(temporary, columns, rows)


def write_whole(path: Path, body: bytes) -> None:
    """Writes an encoded file in the same way."""
    with _placed(path) as temporary:
        temporary.write_bytes(body)


def encode(columns: Columns, rows: Iterator[Sequence[Any]]) -> bytes:
    """Encodes rows as a file."""
    buffer = BytesIO()
    _write(buffer, columns, rows)
    return buffer.getvalue()


class Table:
    """Columns of a file in memory, sorted by the integer columns `by`."""

    def __init__(self, body: bytes, columns: Sequence[str], by: Sequence[str]) -> None:
        """Raises ArchiveBroken if `body` is no Parquet file, or has other columns."""
        try:
            table = pq.read_table(BytesIO(body), columns=list(columns))
            self._table = table.sort_by([(name, "ascending") for name in by])
            self.keys = list(zip(*(self.values(name) for name in by), strict=True))
        except (pa.ArrowException, KeyError, OSError) as error:
            raise ArchiveBroken(f"Parquet: {' '.join(str(error).split())}") from error

    def values(self, name: str, start: int = 0, end: int | None = None) -> list[Any]:
        """Returns the values of a column in rows `[start, end)`. Times are milliseconds since the epoch."""
        column = self._table.column(name)[start:end]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        values: list[Any] = column.to_pylist()
        return values


@contextmanager
def _placed(path: Path) -> Generator[Path]:
    temporary = path.with_name(f"{uuid.uuid4().hex}.unfinished")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(where: Path | BytesIO, columns: Columns, rows: Iterator[Sequence[Any]]) -> None:
    schema = pa.schema([(name, _TYPES[column]) for name, column in columns.items()])
    with pq.ParquetWriter(where, schema, compression="zstd") as writer:
        while group := list(islice(rows, _GROUP)):
            values = zip(*group, strict=True)
            arrays = [_array(column, field.type) for column, field in zip(values, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _array(values: Sequence[Any], kind: Any) -> Any:  # noqa: ANN401
    if pa.types.is_map(kind):
        values = [tuple(value.items()) for value in values]
    return pa.array(values, kind)

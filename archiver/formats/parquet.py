"""Rows as Parquet files (pyarrow, zstd): what queries read."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyarrow has no types; this module is the only one that calls it

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

ColumnType = Literal["TIMESTAMP", "VARCHAR", "INTEGER", "BIGINT", "BLOB", "MAP(VARCHAR, BLOB)"]
"""Types of columns, by their names in DuckDB. The rows hold milliseconds, text, integers, bytes, and mappings."""
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
"""Rows that are held in memory, and become one row group."""


def write(path: Path, columns: Columns, rows: Iterator[Sequence[Any]]) -> None:
    """Write a file, under a name of its own first, so that nobody ever reads a part. Raises OSError."""
    schema = pa.schema([(name, _TYPES[column]) for name, column in columns.items()])
    temporary = path.with_name(f"{uuid.uuid4().hex}.unfinished")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while group := list(islice(rows, _GROUP)):
                values = zip(*group, strict=True)
                arrays = [_array(column, field.type) for column, field in zip(values, schema, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _array(values: Sequence[Any], kind: Any) -> Any:  # noqa: ANN401
    if pa.types.is_map(kind):
        values = [tuple(value.items()) for value in values]
    return pa.array(values, kind)

"""The archive and the local logs as Parquet files, which queries read: each source is transcoded once.

DuckDB reads neither our segments nor our log files as they are, and Parquet of the columns is what makes a query
quick. A source never changes (but for the log files being written, which grow and are then another source), so the
name of its Parquet file is a hash of what it is. Several processes may share the folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import structlog

from archiver.formats import parquet
from archiver.formats.parquet import Columns
from archiver.naming import ROOT, SegmentName, parse_key
from archiver.reader import read_segment
from heliograph.store.base import ObjectStore
from schemas.errors import InvalidNotification
from schemas.log_line import SUFFIX, LogLine
from schemas.notification import Routing, read_routing
from schemas.record import Record
from schemas.topics import DEAD_LETTERS, EVENTS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_FORM = "1"
"""Of the Parquet files; another form is another folder, and the files of the old one age and go."""
_UNUSED_SECONDS = 3600.0
"""After which a file that no query asks for is removed."""

_SPILL_SECONDS = 86_400.0
"""After which a folder of spilled rows is what a killed query left."""

_ROUTED = ("product", "name", "level", "resourceId", "regionId", "userId", "id")
RECORDS: Columns = {
    "time": "TIMESTAMP",
    "topic": "VARCHAR",
    "partition": "INTEGER",
    "epoch": "INTEGER",
    "offset": "BIGINT",
    "key": "BLOB",
    "headers": "MAP(VARCHAR, BLOB)",
    "value": "BLOB",
    **dict.fromkeys(_ROUTED, "VARCHAR"),
}
"""Columns of a transcoded segment. `time` is UTC; of headers with one name the first is kept; what routing reads of an
event is null where the record is none."""
LOGS: Columns = {
    "time": "TIMESTAMP",
    "project": "VARCHAR",
    "logstore": "VARCHAR",
    **dict.fromkeys(LogLine.__struct_encode_fields__[1:], "VARCHAR"),
}
"""Columns of a transcoded log file."""

_log = structlog.get_logger()
_decode_line = msgspec.json.Decoder(LogLine).decode


class QueryCache:
    """The Parquet files of one archive and one folder of logs."""

    def __init__(self, folder: Path, store: ObjectStore, logs: Path | None) -> None:
        self._store = store
        self._logs = logs
        self.folder = folder / f"form-{_FORM}-{_digest(store.url, str(logs))}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def segments(self) -> dict[str, list[Path]]:
        """The Parquet files of each archived topic, in order of time within a partition; made where missing.

        Raises ArchiveBroken for a segment that is not what was written, StoreError.
        """
        found: dict[str, list[Path]] = {}
        for info in self._store.list(ROOT):
            name = parse_key(info.key)
            if name is not None:
                path = self._path("segment", info.key, info.size, info.modified)
                self._ensure(path, RECORDS, self._segment_rows(info.key, name))
                found.setdefault(name.topic, []).append(path)
        return found

    def logs(self) -> list[Path]:
        """The Parquet files of the log files; made where missing."""
        found: list[Path] = []
        for source in sorted(self._logs.glob(f"*/*/*/*{SUFFIX}")) if self._logs else ():
            with suppress(FileNotFoundError):
                stat = source.stat()
                path = self._path("log", str(source), stat.st_size, stat.st_mtime_ns)
                self._ensure(path, LOGS, _log_rows(source))
                found.append(path)
        return found

    def clean(self, used: Iterable[Path]) -> None:
        """Remove what was not asked for now, nor by another query within the hour, and what killed queries left."""
        kept = set(used)
        before = time.time() - _UNUSED_SECONDS
        for path in self.folder.parent.glob("form-*/*"):
            with suppress(OSError):
                if path not in kept and path.stat().st_mtime < before:
                    path.unlink()
        for spill in self.folder.parent.glob("spill-*"):
            with suppress(OSError):
                if spill.stat().st_mtime < time.time() - _SPILL_SECONDS:
                    shutil.rmtree(spill)

    def spill_folder(self) -> Path:
        """A folder of its own for what one query cannot hold in memory; the query's end removes it."""
        return self.folder.parent / f"spill-{uuid.uuid4().hex}"

    def _path(self, *identity: object) -> Path:
        return self.folder / f"{_digest(*identity)}.parquet"

    def _ensure(self, path: Path, columns: Columns, rows: Callable[[], Iterator[Sequence[Any]]]) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            parquet.write(path, columns, rows())

    def _segment_rows(self, key: str, name: SegmentName) -> Callable[[], Iterator[Sequence[Any]]]:
        def rows() -> Iterator[Sequence[Any]]:
            segment = read_segment(self._store, key)
            holds_events = name.topic.startswith(EVENTS) or name.topic == DEAD_LETTERS
            return (_record_row(record, name.epoch, holds_events) for record in segment.records)

        return rows


def _digest(*identity: object) -> str:
    return blake2b("\n".join(map(str, identity)).encode(), digest_size=16).hexdigest()


def _record_row(record: Record, epoch: int, holds_event: bool) -> Sequence[Any]:
    routing = _routing(record.value) if holds_event else None
    return (
        record.timestamp,
        record.topic,
        record.partition,
        epoch,
        record.offset,
        record.key,
        dict(reversed(record.headers)),
        record.value,
        *(_NOT_ROUTED if routing is None else _routed(routing)),
    )


_NOT_ROUTED = (None,) * len(_ROUTED)


def _routed(routing: Routing) -> Sequence[str]:
    return (
        routing.product,
        routing.name,
        routing.level,
        routing.resource_id,
        routing.region_id,
        routing.user_id,
        routing.id,
    )


def _routing(value: bytes) -> Routing | None:
    try:
        return read_routing(value)
    except InvalidNotification:
        return None


def _log_rows(source: Path) -> Callable[[], Iterator[Sequence[Any]]]:
    project, logstore = source.parts[-4:-2]

    def rows() -> Iterator[Sequence[Any]]:
        for line in read_log_lines(source):
            yield line.time, project, logstore, *msgspec.structs.astuple(line)[1:]

    return rows


def read_log_lines(source: Path) -> Iterator[LogLine]:
    """The logs of one file, up to what a crash left incomplete at its end."""
    try:
        with zstd.ZstdFile(source) as file:
            for line in file:
                yield _decode_line(line)
    except (EOFError, zstd.ZstdError, msgspec.DecodeError) as error:
        _log.warning("logs.file-torn", file=str(source), error=str(error))

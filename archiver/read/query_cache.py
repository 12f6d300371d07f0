"""A cache of the archive and the local log store as Parquet files for queries: each source is transcoded once.

DuckDB cannot read segments or log files, and Parquet makes queries fast. A source never changes (a log file that grows
counts as another source), so the name of its Parquet file is a hash of its identity. Several processes may share the
folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from archiver.format import parquet
from archiver.format.manifest import DataFile
from archiver.format.parquet import Columns
from archiver.format.rows import RECORDS, record_row
from archiver.read.compacted import read_file
from archiver.read.reader import SegmentInfo, list_segments
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.store.base import ObjectStore
from schemas.errors import InvalidExecution
from schemas.execution import FIELDS, check_execution
from schemas.log_line import RECORD_SUFFIX, SUFFIX, LogLine
from schemas.record import Record, TopicPartition
from schemas.topics import EXECUTIONS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_VERSION = "1"
"""Version of the Parquet files; a new version uses another folder, and the old files are removed when unused."""
_UNUSED_SECONDS = 3600.0
"""Age at which a file that no query uses is removed."""

_SPILL_SECONDS = 86_400.0
"""Age at which a folder of spilled rows was left by a killed query."""

LOGS: Columns = {
    "time": "TIMESTAMP",
    "project": "VARCHAR",
    "logstore": "VARCHAR",
    **dict.fromkeys(LogLine.__struct_encode_fields__[1:], "VARCHAR"),
}
"""Columns of a transcoded log file of events."""
RECORD_LOGS: Columns = {
    "time": "TIMESTAMP",
    **dict.fromkeys(("project", "logstore", "delivery", "source", *FIELDS), "VARCHAR"),
}
"""Columns of a transcoded file of execution records; a field that a record does not have is null."""

_log = structlog.get_logger()
_Line = TypeVar("_Line")
_decode_line = msgspec.json.Decoder(LogLine).decode
_decode_record_line = msgspec.json.Decoder(dict[str, Any]).decode


class QueryCache:
    """The Parquet files of one archive and one log store."""

    def __init__(self, folder: Path, store: ObjectStore, logs: Path | None) -> None:
        self._store = store
        self._logs = logs
        self.folder = folder / f"form-{_VERSION}-{_digest(store.url, str(logs))}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def segments(self) -> dict[str, list[Path]]:
        """Returns the Parquet files of each archived topic, each record in one of them; fetches those not in the cache.

        Raises ArchiveBroken for a damaged segment or file, StoreError.
        """
        found: dict[str, dict[Path, None]] = {}
        for info in list_segments(self._store):
            path = self._segment(info) if info.file is None else self._compacted(info.file)
            found.setdefault(info.topic, {})[path] = None
        return {topic: list(paths) for topic, paths in found.items()}

    def recent_executions(self, bus: Bus) -> list[Path]:
        """Returns a Parquet file of the execution records that are not archived yet, if there are any.

        Call it before `segments`, so that a record archived meanwhile is in both and never missed. Raises BusError.
        """
        tails = {info.partition: info for info in list_segments(self._store, EXECUTIONS)}
        spans: list[tuple[TopicPartition, int, int]] = []
        for partition, extent in sorted(bus.extents(EXECUTIONS).items()):
            last = tails.get(partition.partition)
            header = last.read_header() if last else None
            start = extent.start
            if header is not None and header.goes_on_in(bus.log_id):
                start = max(start, header.next_offset)
            if start < extent.end:
                spans.append((partition, start, extent.end))
        if not spans:
            return []
        path = self._path("recent", bus.log_id, *spans)
        rows = (
            record_row(record, 0) for span in spans for record in read_on(bus, *span) if _is_execution(record)
        )
        self._ensure(path, lambda: parquet.write(path, RECORDS, rows))
        return [path]

    def logs(self) -> list[Path]:
        """Returns the Parquet files of the log files of events; makes those not in the cache."""
        return self._transcoded(LOGS, _log_rows, lambda source: not source.name.endswith(RECORD_SUFFIX))

    def record_logs(self) -> list[Path]:
        """Returns the Parquet files of the log files of execution records; makes those not in the cache."""
        return self._transcoded(
            RECORD_LOGS, _record_log_rows, lambda source: source.name.endswith(RECORD_SUFFIX)
        )

    def clean(self, used: Iterable[Path]) -> None:
        """Removes files that no query used within the hour, except `used`, and the folders that killed queries left."""
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
        """Returns a folder for the rows that one query spills; DuckDB removes it at the end."""
        return self.folder.parent / f"spill-{uuid.uuid4().hex}"

    def _transcoded(
        self,
        columns: Columns,
        rows: Callable[[Path], Iterator[Sequence[Any]]],
        wanted: Callable[[Path], bool],
    ) -> list[Path]:
        found: list[Path] = []
        for source in filter(wanted, sorted(self._logs.glob(f"*/*/*/*{SUFFIX}")) if self._logs else ()):
            with suppress(FileNotFoundError):
                stat = source.stat()
                path = self._path("log", str(source), stat.st_size, stat.st_mtime_ns)
                self._ensure(path, partial(parquet.write, path, columns, rows(source)))
                found.append(path)
        return found

    def _path(self, *identity: object) -> Path:
        return self.folder / f"{_digest(*identity)}.parquet"

    def _segment(self, info: SegmentInfo) -> Path:
        path = self._path("segment", info.key, info.size, info.modified)
        self._ensure(path, lambda: parquet.write(path, RECORDS, _segment_rows(info)))
        return path

    def _compacted(self, file: DataFile) -> Path:
        path = self._path("compacted", file.key, file.sha256)
        self._ensure(path, lambda: parquet.write_whole(path, read_file(self._store, file)))
        return path

    def _ensure(self, path: Path, make: Callable[[], None]) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            make()


def _is_execution(record: Record) -> bool:
    try:
        check_execution(record.value)
    except InvalidExecution:
        return False
    return True


def _segment_rows(info: SegmentInfo) -> Iterator[Sequence[Any]]:
    return (record_row(record, info.epoch) for record in info.load().records)


def _digest(*identity: object) -> str:
    return blake2b("\n".join(map(str, identity)).encode(), digest_size=16).hexdigest()


def _log_rows(source: Path) -> Iterator[Sequence[Any]]:
    project, logstore = source.parts[-4:-2]
    for line in read_log_lines(source):
        yield line.time, project, logstore, *msgspec.structs.astuple(line)[1:]


def _record_log_rows(source: Path) -> Iterator[Sequence[Any]]:
    project, logstore = source.parts[-4:-2]
    for line in read_lines(source, _decode_record_line):
        yield line["time"], project, logstore, *map(line.get, ("delivery", "source", *FIELDS))


def read_log_lines(source: Path) -> Iterator[LogLine]:
    """Reads the log lines of one file of events, up to a line that a crash cut off."""
    return read_lines(source, _decode_line)


def read_lines(source: Path, decode: Callable[[bytes], _Line]) -> Iterator[_Line]:
    """Reads the lines of one file, up to a line that a crash cut off."""
    try:
        with zstd.ZstdFile(source) as file:
            for line in file:
                yield decode(line)
    except (EOFError, zstd.ZstdError, msgspec.DecodeError) as error:
        _log.warning(
            "log file cut off or damaged, read up to its last readable line",
            file=str(source),
            error=str(error),
        )

"""Kind `logs`: writes each delivery as a log line to a logstore of a project, as in Log Service, but kept in a local
folder.

When `deliver` returns, the lines of the batch are durable: one Zstandard frame of JSON lines, appended to the current
file of this sink and synced. `schemas.log_line` defines files and lines.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Annotated

import msgspec
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict

from schemas.clock import Clock, SystemClock
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import InvalidNotification
from schemas.log_line import SUFFIX, LogLine
from schemas.notification import read_routing
from sinks.base import CLOSED, Sink, SinkContext, SinkKind

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SEGMENT_BYTES = 64 * 1024 * 1024
SEGMENT_SECONDS = 3600.0

_log = structlog.get_logger()
_encoder = msgspec.json.Encoder()

_is_name = re.compile(r"[a-z0-9][a-z0-9_-]{0,61}[a-z0-9]").fullmatch


def _checked_name(name: str) -> str:
    if not _is_name(name):
        raise ValueError(
            f"{name!r} is not a valid name; use 2 to 63 lower-case letters, digits, `-` and `_`, with no `-` or `_` at the ends"
        )
    return name


_Name = Annotated[str, AfterValidator(_checked_name)]


class LogsSettings(BaseModel):
    """Names as Log Service has them: 2 to 63 lower-case letters, digits, `-` and `_`; no `-` or `_` at the ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: _Name
    logstore: _Name


class LogWriter:
    """The current file of one logstore. Thread-safe; a file that was closed is never opened again."""

    def __init__(self, folder: Path, clock: Clock, suffix: str = SUFFIX) -> None:
        self._folder = folder
        self._suffix = suffix
        self._clock = clock
        self._writer = uuid.uuid4().hex[:12]
        self._opened = 0
        self._file: FileIO | None = None
        self._path = folder
        self._size = 0
        self._until = 0.0
        self._lock = Lock()

    def append(self, lines: bytes) -> Path:
        """Appends whole lines; they are durable when it returns. Raises OSError, after which none of them is kept."""
        frame = zstd.compress(lines)
        with self._lock:
            if self._file is not None and self._is_due():
                self._finish()
            file = self._file or self._begin()
            try:
                rest = memoryview(frame)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                self._abandon(file)
                raise
            self._size += len(frame)
            return self._path

    def close(self) -> None:
        """Finishes the current file; a later append begins another."""
        with self._lock:
            self._finish()

    def _is_due(self) -> bool:
        return self._size >= SEGMENT_BYTES or self._clock.monotonic() >= self._until

    def _begin(self) -> FileIO:
        now = datetime.fromtimestamp(self._clock.now() / 1000, UTC)
        self._opened += 1
        path = self._folder / f"{now:%Y-%m-%d}" / f"{now:%H%M%S}-{self._writer}-{self._opened}{self._suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "xb")
        self._file, self._path, self._size = file, path, 0
        self._until = self._clock.monotonic() + SEGMENT_SECONDS
        try:
            for folder in path.parents[:4]:
                _sync(folder)
        except OSError:
            self._abandon(file)
            raise
        return file

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _abandon(self, file: FileIO) -> None:
        """Ends the file after a failed write or sync: acknowledged lines are kept, and nothing more is written to
        it."""
        self._file = None
        with suppress(OSError):
            os.ftruncate(file.fileno(), self._size)
        with suppress(OSError):
            file.close()
        if self._size == 0:
            with suppress(OSError):
                self._path.unlink()


class LogsSink:
    """Writes deliveries to one logstore. `line` encodes a delivery as a log line, or rejects it."""

    def __init__(self, writer: LogWriter, line: Callable[[Delivery], bytes | Rejected]) -> None:
        self._writer = writer
        self._line = line
        self._closed = False

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Appends one frame for the batch. The receipt is the name of the file that holds it."""
        if self._closed:
            return [CLOSED] * len(batch)
        return await asyncio.to_thread(self._deliver, batch)

    async def close(self) -> None:
        """Finishes the current file."""
        self._closed = True
        await asyncio.to_thread(self._writer.close)

    def _deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        lines = [self._line(delivery) for delivery in batch]
        kept = [line for line in lines if isinstance(line, bytes)]
        written = self._write(kept) if kept else Delivered()
        return [written if isinstance(line, bytes) else line for line in lines]

    def _write(self, lines: Sequence[bytes]) -> Outcome:
        try:
            return Delivered(self._writer.append(b"\n".join((*lines, b""))).name)
        except OSError as error:
            detail = _DETAILS.get(error.errno or 0) or error.strerror or str(error)
            _log.warning("log store cannot be written", reason=detail, lines=len(lines))
            return Retry(Reason(ReasonCode.UNAVAILABLE, f"log store: {detail}"))


_DETAILS = {
    errno.ENOSPC: "no space left on its disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write to its folder",
    errno.EROFS: "its file system is read-only",
}


def event_line(delivery: Delivery) -> bytes | Rejected:
    """Encodes a notification as a log line (`schemas.log_line.LogLine`) of JSON, or rejects it."""
    try:
        routing = read_routing(delivery.event)
        text = delivery.event.decode()
    except (InvalidNotification, UnicodeDecodeError) as error:
        return Rejected(Reason(ReasonCode.REFUSED, f"not a notification: {error}"))
    line = LogLine(
        time=delivery.event_time,
        delivery=delivery.id,
        source=str(delivery.source),
        subscription=delivery.subscription,
        target=delivery.target,
        product=routing.product,
        name=routing.name,
        level=routing.level,
        resource_id=delivery.resource,
        region_id=routing.region_id,
        user_id=routing.user_id,
        event=text,
    )
    return _encoder.encode(line)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_writer(settings: LogsSettings, context: SinkContext, suffix: str) -> LogWriter:
    """Returns a writer for the named logstore; the `suffix` of a file's name says which lines it holds."""
    return LogWriter(context.logs / settings.project / settings.logstore, SystemClock(), suffix)


def _build(settings: LogsSettings, context: SinkContext) -> Sink:
    return LogsSink(build_writer(settings, context, SUFFIX), event_line)


KIND = SinkKind(LogsSettings, _build, batch=1000)

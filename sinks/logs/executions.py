"""Kind `result-logs`: writes each execution record as a log line that has the record's fields, with their values as
text.

`schemas.log_line` defines files and lines of execution records; the writer is that of kind `logs`.
"""

from __future__ import annotations

import msgspec

from schemas.delivery import Delivery, Reason, ReasonCode, Rejected
from schemas.errors import InvalidExecution
from schemas.execution import check_execution
from schemas.log_line import RECORD_SUFFIX
from sinks.base import Sink, SinkContext, SinkKind
from sinks.logs.events import LogsSettings, LogsSink, build_writer

_encode = msgspec.json.Encoder().encode


def record_line(delivery: Delivery) -> bytes | Rejected:
    """Encodes an execution record as a log line of JSON, or rejects it. Fields that the record lacks are left out."""
    try:
        record = check_execution(delivery.event)
    except InvalidExecution as error:
        return Rejected(Reason(ReasonCode.REFUSED, f"not an execution record: {error}"))
    fields = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    about = {"time": delivery.event_time, "delivery": delivery.id, "source": str(delivery.source)}
    return _encode(about | {name: _text(value) for name, value in fields.items()})


def _text(value: object) -> str:
    """Returns text unchanged, and any other value as JSON."""
    return value if isinstance(value, str) else _encode(value).decode()


def _build(settings: LogsSettings, context: SinkContext) -> Sink:
    return LogsSink(build_writer(settings, context, RECORD_SUFFIX), record_line)


KIND = SinkKind(LogsSettings, _build, batch=1000)

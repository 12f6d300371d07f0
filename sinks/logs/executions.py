"""Kind `result-logs`: each execution record becomes a log, with the record's fields by their names, values as text.

Files and lines are as `schemas.log_line` says of execution records; the writer is that of kind `logs`.
"""

from __future__ import annotations

import msgspec

from schemas.delivery import Delivery, Reason, ReasonCode, Rejected
from schemas.errors import InvalidExecution
from schemas.execution import check_execution
from schemas.log_line import RECORD_SUFFIX
from sinks.base import Sink, SinkContext, SinkKind
from sinks.logs.events import LogsSettings, LogsSink, writer_of

_encode = msgspec.json.Encoder().encode


def record_line(delivery: Delivery) -> bytes | Rejected:
    """The log of an execution record, as JSON. A field that the record does not have is not there."""
    try:
        record = check_execution(delivery.event)
    except InvalidExecution as error:
        return Rejected(Reason(ReasonCode.REFUSED, f"not an execution record: {error}"))
    fields = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    about = {"time": delivery.event_time, "delivery": delivery.id, "source": str(delivery.source)}
    return _encode(about | {name: _text(value) for name, value in fields.items()})


def _text(value: object) -> str:
    """A value as JSON writes it; text as it is."""
    return value if isinstance(value, str) else _encode(value).decode()


def _build(settings: LogsSettings, context: SinkContext) -> Sink:
    return LogsSink(writer_of(settings, context, RECORD_SUFFIX), record_line)


KIND = SinkKind(LogsSettings, _build, batch=1000)

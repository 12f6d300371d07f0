"""What goes to the topic `rejects`: input that is not a notification, kept with the reason."""

from __future__ import annotations

from schemas.record import FORMAT, FORMAT_VERSION, NewRecord
from schemas.topics import RECORD_LIMIT, REJECTS

_KEPT = RECORD_LIMIT - 16 * 1024
_REASON_LIMIT = 2048


def rejected_record(value: bytes, reason: str, where: str) -> NewRecord:
    """The record of one refused input: its bytes as value, and headers that say why and where it was refused.

    What would not fit into a record is cut, and the header `cut-from` says how many bytes there were.
    """
    headers = [
        (FORMAT, FORMAT_VERSION),
        ("reason", reason.encode(errors="replace")[:_REASON_LIMIT]),
        ("where", where.encode(errors="replace")[:_REASON_LIMIT]),
    ]
    if len(value) > _KEPT:
        headers.append(("cut-from", b"%d" % len(value)))
    return NewRecord(REJECTS, value[:_KEPT], None, tuple(headers))

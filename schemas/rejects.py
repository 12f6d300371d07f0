"""Records of the topic `rejects`: input that was refused, with the reason."""

from __future__ import annotations

from schemas.record import FORMAT, FORMAT_VERSION, NewRecord
from schemas.topics import RECORD_LIMIT, REJECTS

_KEPT = RECORD_LIMIT - 16 * 1024
_REASON_LIMIT = 2048


def rejected_record(value: bytes, reason: str, where: str) -> NewRecord:
    """Builds the record of one refused input: its bytes as the value, reason and place of the refusal as headers.

    An input too large for a record is cut; the header `cut-from` then holds its size in bytes.
    """
    headers = [
        (FORMAT, FORMAT_VERSION),
        ("reason", reason.encode(errors="replace")[:_REASON_LIMIT]),
        ("where", where.encode(errors="replace")[:_REASON_LIMIT]),
    ]
    if len(value) > _KEPT:
        headers.append(("cut-from", b"%d" % len(value)))
    return NewRecord(REJECTS, value[:_KEPT], None, tuple(headers))

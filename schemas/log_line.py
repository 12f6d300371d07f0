"""A log line of the local log store. Its files are `<project>/<logstore>/<day>/<time>-<writer>-<n>.jsonl.zst`.

A file is a sequence of Zstandard frames (RFC 8878). A frame has whole lines, and a line is one JSON object. A crash may
leave the last frame of a file incomplete; all acknowledged lines are in the frames before it.
"""

from __future__ import annotations

import msgspec

SUFFIX = ".jsonl.zst"
RECORD_SUFFIX = ".records.jsonl.zst"
"""Suffix of files whose lines are execution records: `time`, `delivery` and `source` as in `LogLine`, then the record's
fields by their names, each value as text (ECS user manual: logs have the parameters of the stored objects)."""


class LogLine(msgspec.Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """One delivery as a log line. `time`: when the event was appended, in milliseconds since the epoch; `event`: the
    event's bytes as text. A repeated delivery writes another line with the same `delivery`."""

    time: int
    delivery: str
    source: str
    subscription: str
    target: str
    product: str
    name: str
    level: str
    resource_id: str
    region_id: str
    user_id: str
    event: str

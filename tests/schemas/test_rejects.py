"""Records of the topic `rejects`."""

from __future__ import annotations

from heliograph.bus.admission import check_sizes
from schemas.rejects import rejected_record
from schemas.topics import RECORD_LIMIT, REJECTS


def test_a_rejected_input_has_reason_and_place_in_headers() -> None:
    record = rejected_record(b"hello", "level: missing", "edge, item 3")
    assert (record.topic, record.value, record.key) == (REJECTS, b"hello", None)
    assert dict(record.headers)["reason"] == b"level: missing"
    assert dict(record.headers)["where"] == b"edge, item 3"
    assert "cut-from" not in dict(record.headers)


def test_an_input_too_large_for_a_record_is_cut_and_marked() -> None:
    value = b"x" * (RECORD_LIMIT + 1)
    record = rejected_record(value, "é" * RECORD_LIMIT, "\ud800" * RECORD_LIMIT)
    check_sizes([record])
    assert value.startswith(record.value)
    assert dict(record.headers)["cut-from"] == str(len(value)).encode()

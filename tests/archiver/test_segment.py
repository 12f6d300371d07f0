"""Segments and their headers."""

from __future__ import annotations

import msgspec
import pytest

from archiver.format.segment import (
    Draft,
    Place,
    Segment,
    build_header,
    decode_header,
    encode_header,
    find_problem,
)
from schemas.errors import ArchiveBroken
from tests.archiver.making import LOG, TOPIC, record

PLACE = Place(log_id=LOG, topic=TOPIC, partition=0, epoch=0, expected_offset=5, previous_sha256="ab" * 32)
RECORDS = [record(5, timestamp=30), record(6, timestamp=10), record(9, timestamp=20)]


def _segment(draft: Draft, place: Place = PLACE) -> Segment:
    return Segment(build_header(place, draft), draft.records)


def test_the_header_describes_the_records() -> None:
    header = build_header(PLACE, Draft(RECORDS, 10, ((7, 9),)))
    assert (header.first_offset, header.last_offset, header.count) == (5, 9, 3)
    assert (header.first_timestamp, header.last_timestamp) == (30, 20)
    assert (header.earliest_timestamp, header.latest_timestamp) == (10, 30)
    assert (header.expected_offset, header.next_offset, header.previous_sha256) == (5, 10, "ab" * 32)


def test_a_header_is_read_back_and_always_gives_the_same_bytes() -> None:
    header = build_header(PLACE, Draft(RECORDS, 10, ((7, 9),)))
    assert decode_header(encode_header(header)) == header
    assert encode_header(decode_header(encode_header(header))) == encode_header(header)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format":1}', b'{"format":"1"}'])
def test_bytes_that_are_no_header_are_refused(data: bytes) -> None:
    with pytest.raises(ArchiveBroken):
        decode_header(data)


def test_a_sound_segment_has_no_problem() -> None:
    assert find_problem(_segment(Draft(RECORDS, 10, ((7, 9),)))) is None
    assert find_problem(_segment(Draft(RECORDS, 10, holes_legal=True))) is None
    assert find_problem(_segment(Draft((), 9, ((5, 9),)))) is None


@pytest.mark.parametrize(
    ("draft", "problem"),
    [
        (Draft(RECORDS, 10), "offsets 7 to 8 are missing"),
        (Draft(RECORDS, 10, ((7, 8),)), "offsets 8 to 8 are missing"),
        (Draft(RECORDS, 12, ((7, 9),)), "offsets 10 to 11 are missing"),
        (Draft(RECORDS[1:], 10, ((7, 9),)), "offsets 5 to 5 are missing"),
        (Draft(RECORDS, 10, ((6, 9),)), "comes twice"),
        (Draft(RECORDS, 9, ((7, 9),)), "comes twice, or outside"),
        (Draft([record(4), *RECORDS], 10, ((7, 9),)), "comes twice, or outside"),
        (Draft(RECORDS[::-1], 10, ((7, 9),)), "not in order"),
    ],
)
def test_offsets_missing_or_covered_twice_are_a_problem(draft: Draft, problem: str) -> None:
    assert problem in (find_problem(_segment(draft)) or "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 2),
        ("first_offset", 6),
        ("last_timestamp", 21),
        ("latest_timestamp", 31),
        ("records_sha256", "00" * 32),
    ],
)
def test_a_header_that_contradicts_the_records_is_a_problem(field: str, value: object) -> None:
    header, records = _segment(Draft(RECORDS, 10, ((7, 9),)))
    wrong = msgspec.structs.replace(header, **{field: value})
    assert f"its header says {field} {value}" in (find_problem(Segment(wrong, records)) or "")

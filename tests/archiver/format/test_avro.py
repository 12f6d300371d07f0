"""Avro segments: read back, sealed, and refused when changed."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.format import avro
from archiver.format.segment import Draft, SegmentHeader, build_header
from archiver.write.chain import Tail
from schemas.errors import ArchiveBroken
from schemas.record import Record
from tests.archiver.making import LOG, TOPIC, record, record_lists


def _segment(records: list[Record]) -> tuple[SegmentHeader, bytes]:
    end = records[-1].offset + 1 if records else 0
    header = build_header(Tail(LOG, TOPIC, 0).place, Draft(records, end, holes_legal=True))
    return header, avro.encode(header, records)


@given(record_lists())
def test_a_segment_is_read_back_byte_for_byte(records: list[Record]) -> None:
    header, body = _segment(records)
    assert avro.decode(body) == (header, records)
    assert avro.read_header(body) == header


def test_a_segment_of_many_blocks_is_read_back() -> None:
    records = [record(offset, value=bytes(1000)) for offset in range(1000)]
    assert avro.decode(_segment(records)[1]).records == records


@given(record_lists())
def test_the_same_segment_is_the_same_bytes(records: list[Record]) -> None:
    assert _segment(records)[1] == _segment(list(records))[1]


@settings(max_examples=300)
@given(st.data())
def test_a_change_of_any_byte_is_found(data: st.DataObject) -> None:
    body = bytearray(_segment([record(offset) for offset in range(5)])[1])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArchiveBroken):
        avro.decode(bytes(body))


@given(st.data())
def test_a_cut_or_longer_file_is_found(data: st.DataObject) -> None:
    body = _segment([record(offset) for offset in range(5)])[1]
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for wrong in (cut, body + b"\0", b"\0" + body):
        with pytest.raises(ArchiveBroken):
            avro.decode(wrong)


def test_a_newer_format_is_refused() -> None:
    header, _ = _segment([])
    newer = msgspec.structs.replace(header, format=2)
    with pytest.raises(ArchiveBroken, match=r"format 2.*up to 1.*newer"):
        avro.decode(avro.encode(newer, []))


def test_any_avro_reader_reads_the_fields() -> None:
    rows = list(fastavro.reader(BytesIO(_segment([record(7)])[1])))
    assert rows == [
        {
            "offset": 7,
            "timestamp": 1_700_000_000_007,
            "key": b"k7",
            "headers": b"\0\0\0\1\0\0\0\1n\0\0\0\0017",
            "value": b"v7",
        }
    ]


@given(st.data())
def test_a_file_with_a_forged_seal_raises_archive_broken_or_is_read(data: st.DataObject) -> None:
    body = bytearray(_segment([record(offset, value=bytes(100)) for offset in range(5)])[1])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    entry = avro.SEAL_ENTRY.encode() + b"\x80\x01"
    start = body.find(entry) + len(entry)
    body[start : start + 64] = b"0" * 64
    body[start : start + 64] = sha256(body).hexdigest().encode()
    with suppress(ArchiveBroken):
        avro.decode(bytes(body))

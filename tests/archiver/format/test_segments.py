"""The choice of a segment's format by the suffix of its key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from archiver.format.canonical import HeaderBytes, ParsedHeaders, object_sha256
from archiver.format.naming import parse_key
from archiver.format.segment import Segment, SegmentHeader, build_header
from archiver.format.segments import FORMATS, decode_segment, encode_segment, read_segment_header
from archiver.read.reader import read_records
from archiver.read.verify import verify
from archiver.write.chain import find_tail
from heliograph.store.memory import MemoryStore
from schemas.errors import ArchiveBroken
from schemas.record import Record
from tests.archiver.making import TOPIC, chain, draft

Row = tuple[int, int, bytes | None, bytes, bytes]


class MessagePack:
    """A second format, as small as a format can be."""

    def encode(self, header: SegmentHeader, records: Sequence[Record]) -> bytes:
        headers = HeaderBytes()
        rows = [(one.offset, one.timestamp, one.key, headers[one.headers], one.value) for one in records]
        return msgspec.msgpack.encode((header, rows))

    def decode(self, body: bytes) -> Segment:
        header, rows = msgspec.msgpack.decode(body, type=tuple[SegmentHeader, list[Row]])
        headers = ParsedHeaders()
        return Segment(
            header,
            [
                Record(header.topic, header.partition, offset, timestamp, key, headers[encoded], value)
                for offset, timestamp, key, encoded, value in rows
            ],
        )

    def read_header(self, body: bytes) -> SegmentHeader:
        return self.decode(body).header


def test_a_format_needs_a_line_in_the_table_to_be_read_and_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    tail = chain(store, range(2), range(2, 4))
    first, second = (info.key for info in store.list(f"topics/{TOPIC}/"))
    other = second.replace(".avro", ".msgpack")
    header, records = decode_segment(second, store.get(second))
    store.delete(second)
    assert parse_key(other) is None
    monkeypatch.setitem(FORMATS, ".msgpack", MessagePack())
    store.put(other, encode_segment(other, header, records))
    assert [record.offset for record in read_records(store, [TOPIC])] == [0, 1, 2, 3]
    report = verify(store)
    assert (report.sound, report.segments) == (True, 2), report.line()
    found = find_tail(store, TOPIC, 0)
    assert found is not None
    assert (found.key, found.object_sha256) == (other, object_sha256(store.get(other)))
    assert found.expected_offset == tail.expected_offset
    assert first.endswith(".avro")


def test_an_unknown_suffix_is_refused_with_the_known_ones() -> None:
    header = build_header(chain(MemoryStore(), range(1)).place, draft([1]))
    with pytest.raises(ArchiveBroken, match=r"suffix '\.orc'; known: \.avro"):
        encode_segment("a/b.orc", header, [])
    for read in (decode_segment, read_segment_header):
        with pytest.raises(ArchiveBroken, match=r"a/b\.orc: .*suffix"):
            read("a/b.orc", b"")

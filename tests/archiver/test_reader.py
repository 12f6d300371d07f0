"""Reading the archive."""

from __future__ import annotations

import pytest

from archiver.format import avro
from archiver.read.reader import list_segments, read_records, read_segment
from archiver.write.chain import Tail
from heliograph.store.memory import MemoryStore
from schemas.errors import ArchiveBroken
from tests.archiver.making import LOG, TOPIC, chain

START = 1_700_000_000_000


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    chain(store, range(3), range(3, 6), range(6, 9))
    chain(store, range(2), tail=Tail(LOG, TOPIC, 1))
    chain(store, range(1), tail=Tail(LOG, "rejects", 0))
    store.put("topics/README.txt", b"not a segment")
    return store


def test_segments_are_listed_by_topic_pattern_or_all(store: MemoryStore) -> None:
    def listed(topic: str | None) -> list[tuple[str, int, int]]:
        return [(info.topic, info.partition, info.expected_offset) for info in list_segments(store, topic)]

    ours = [(TOPIC, 0, 0), (TOPIC, 0, 3), (TOPIC, 0, 6), (TOPIC, 1, 0)]
    assert listed(TOPIC) == listed("events.*") == ours
    assert listed(None) == [*ours, ("rejects", 0, 0)]
    assert listed("events") == []


def test_a_listed_segment_has_its_size_and_header(store: MemoryStore) -> None:
    info = next(list_segments(store, TOPIC))
    assert info.size == len(store.get(info.key))
    assert info.read_header().next_offset == 3
    assert len(info.load().records) == 3


def test_records_come_in_order_partition_by_partition(store: MemoryStore) -> None:
    found = [(record.partition, record.offset) for record in read_records(store, [TOPIC])]
    assert found == [(0, offset) for offset in range(9)] + [(1, 0), (1, 1)]
    assert len(list(read_records(store))) == 12
    assert len(list(read_records(store, ["rejects", TOPIC]))) == 12


@pytest.mark.parametrize(
    ("since", "until", "offsets"),
    [
        (None, None, range(9)),
        (START + 4, None, range(4, 9)),
        (None, START + 4, range(4)),
        (START + 4, START + 7, range(4, 7)),
        (START + 9, None, range(0)),
        (START + 3, START + 3, range(0)),
    ],
)
def test_only_records_of_the_time_range_are_read(
    store: MemoryStore, since: int | None, until: int | None, offsets: range
) -> None:
    found = [record.offset for record in read_records(store, [TOPIC], since, until) if not record.partition]
    assert found == list(offsets)


def test_segments_outside_the_time_range_are_not_decoded(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = avro.decode

    def counting(body: bytes) -> object:
        segment = decode(body)
        decoded.append(segment.header.expected_offset)
        return segment

    monkeypatch.setattr(avro, "decode", counting)
    assert len(list(read_records(store, [TOPIC], START + 4, START + 5))) == 1
    assert decoded == [3]


def test_a_damaged_segment_is_refused_by_its_key(store: MemoryStore) -> None:
    key = next(list_segments(store, TOPIC)).key
    store.put(key, b"x" + store.get(key)[1:])
    with pytest.raises(ArchiveBroken, match=r"disk\+0\+0{20}\.avro: damaged"):
        read_segment(store, key)
    with pytest.raises(ArchiveBroken, match=r"disk\+0\+0{20}\.avro: damaged"):
        list(read_records(store))

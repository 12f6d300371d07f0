"""Verification of an archive."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.format import avro
from archiver.format.naming import segment_key
from archiver.format.segment import encode_header
from archiver.read.verify import Problem, find_heads, verify
from archiver.write.chain import Tail
from heliograph.store.memory import MemoryStore
from tests.archiver.making import LOG, TOPIC, chain


def _store() -> MemoryStore:
    store = MemoryStore()
    chain(store, range(3), range(3, 6), range(6, 9))
    chain(store, range(2), tail=Tail(LOG, TOPIC, 1))
    chain(store, range(1), tail=Tail(LOG, "rejects", 0))
    return store


def _key(offset: int) -> str:
    return segment_key(TOPIC, 0, offset)


def _only_problem(store: MemoryStore) -> Problem:
    report = verify(store)
    assert not report.sound
    (problem,) = report.problems
    return problem


def test_a_sound_archive_reports_its_counts() -> None:
    report = verify(_store())
    assert report.sound
    assert (report.chains, report.segments, report.records, report.lost_offsets) == (3, 5, 12, 0)
    assert report.line() == "archive verified: 12 records in 5 segments of 3 chains"
    assert report.row()["sound"] is True


def test_one_topic_alone_can_be_verified() -> None:
    store = _store()
    store.delete(_key(3))
    assert verify(store, "rejects").sound
    assert not verify(store, TOPIC).sound


def test_an_empty_archive_is_sound() -> None:
    assert verify(MemoryStore()).line() == "archive verified: 0 records in 0 segments of 0 chains"


@settings(max_examples=200)
@given(st.data())
def test_a_change_of_any_byte_of_any_segment_is_found(data: st.DataObject) -> None:
    store = _store()
    key = data.draw(st.sampled_from([info.key for info in store.list("")]))
    body = bytearray(store.get(key))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    store.put(key, bytes(body))
    assert _only_problem(store).key == key


@pytest.mark.parametrize("missing", [0, 3])
def test_a_missing_segment_is_named(missing: int) -> None:
    store = _store()
    store.delete(_key(missing))
    problem = _only_problem(store)
    assert problem.key == _key(missing + 3)
    assert f"expected {_key(missing)} here" in problem.why


def test_an_extra_segment_is_named() -> None:
    store = _store()
    store.put(_key(4), store.get(_key(3)))
    assert _only_problem(store).key == _key(4)


def test_another_object_among_the_segments_is_named() -> None:
    store = _store()
    store.put(f"topics/{TOPIC}/partition=0/zzz", b"")
    assert str(_only_problem(store)) == f"topics/{TOPIC}/partition=0/zzz: not the key of a segment"


def test_a_rewritten_segment_is_found_by_the_link_of_the_next() -> None:
    store = _store()
    forged = MemoryStore()
    chain(forged, range(3), range(3, 6))
    segment = avro.decode(forged.get(_key(0)))
    header = msgspec.structs.replace(segment.header, holes_legal=True)
    store.put(_key(0), avro.encode(header, segment.records))
    problem = _only_problem(store)
    assert problem.key == _key(3)
    assert "previous_sha256" in problem.why


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topic", "rejects"),
        ("partition", 1),
        ("epoch", 1),
        ("expected_offset", 5),
        ("log_id", "log-2"),
        ("previous_sha256", ""),
        ("next_offset", 10),
        ("count", 4),
        ("latest_timestamp", 0),
        ("records_sha256", "0" * 64),
        ("gaps", ((6, 7),)),
    ],
)
def test_a_header_that_does_not_fit_is_named_with_its_field(field: str, value: object) -> None:
    store = _store()
    header, records = avro.decode(store.get(_key(6)))
    wrong = msgspec.structs.replace(header, **{field: value})
    assert encode_header(wrong) != encode_header(header)
    store.put(_key(6), avro.encode(wrong, records))
    problem = _only_problem(store)
    assert problem.key == _key(6)
    assert any(word in problem.why for word in (field, "missing", "twice"))


def test_heads_find_a_tail_that_was_cut_off() -> None:
    store = _store()
    expected = {head.key: head.object_sha256 for head in find_heads(store)}
    assert set(expected) == {_key(6), segment_key(TOPIC, 1, 0), segment_key("rejects", 0, 0)}
    assert verify(store, expect_head=expected).sound
    store.delete(_key(6))
    assert verify(store).sound
    report = verify(store, expect_head=expected)
    assert [problem.key for problem in report.problems] == [_key(6)]
    assert report.line().endswith("is gone: the end of the chain is cut off")


def test_heads_find_a_tail_that_was_replaced() -> None:
    store = _store()
    expected = {head.key: head.object_sha256 for head in find_heads(store)}
    header, records = avro.decode(store.get(_key(6)))
    store.put(_key(6), avro.encode(msgspec.structs.replace(header, holes_legal=True), records))
    assert verify(store).sound
    assert not verify(store, expect_head=expected).sound


def test_the_old_head_of_a_chain_that_has_grown_verifies() -> None:
    store = _store()
    expected = {head.key: head.object_sha256 for head in find_heads(store)}
    (tail,) = (head for head in find_heads(store) if head.key == _key(6))
    chain(store, range(9, 12), tail=tail)
    assert verify(store, expect_head=expected).sound

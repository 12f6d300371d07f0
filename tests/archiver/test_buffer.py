"""The buffer of a partition between the bus and its next segment."""

from __future__ import annotations

from archiver.format.segment import Draft
from archiver.write.buffer import Buffer, count_bytes
from archiver.write.chain import Tail
from archiver.write.policy import ArchivePolicy, Waiting
from tests.archiver.making import LOG, TOPIC, record

POLICY = ArchivePolicy()


def _tail(offset: int) -> Tail:
    return Tail(LOG, TOPIC, 0, expected_offset=offset)


def _buffer(offset: int = 5, *, holes_legal: bool = False) -> Buffer:
    return Buffer(_tail(offset), holes_legal=holes_legal)


def test_nothing_waits_at_first() -> None:
    assert _buffer().waiting is None


def test_waiting_tells_the_arrival_of_the_first_and_last_record() -> None:
    buffer = _buffer()
    one, two = record(5), record(6)
    assert buffer.add([one], 10.0) == ([], [])
    buffer.add([two], 12.0)
    assert buffer.waiting == Waiting(2, count_bytes(one) + count_bytes(two), 10.0, 12.0)


def test_records_archived_already_are_returned() -> None:
    buffer = _buffer()
    archived, gaps = buffer.add([record(3), record(4), record(5)], 0)
    assert [one.offset for one in archived] == [3, 4]
    assert not gaps
    assert [one.offset for one in buffer.build_draft(POLICY).records] == [5]


def test_a_gap_is_in_the_draft_with_the_records_after_it() -> None:
    buffer = _buffer()
    assert buffer.skip(8, 1.0) == (5, 8)
    assert buffer.skip(8, 1.0) is None
    buffer.add([record(8)], 1.0)
    draft = buffer.build_draft(POLICY)
    assert (draft.next_offset, draft.gaps) == (9, ((5, 8),))


def test_a_gap_alone_makes_a_segment() -> None:
    buffer = _buffer()
    buffer.skip(8, 1.0)
    assert buffer.waiting == Waiting(0, 0, 1.0, 1.0)
    assert buffer.build_draft(POLICY) == Draft([], 8, ((5, 8),))


def test_an_unreported_hole_is_a_gap_unless_holes_are_legal() -> None:
    assert _buffer().add([record(7)], 0) == ([], [(5, 7)])
    legal = _buffer(holes_legal=True)
    assert legal.add([record(7)], 0) == ([], [])
    assert legal.build_draft(POLICY).holes_legal


def test_a_draft_keeps_to_the_policy_and_takes_the_gaps_below_its_end() -> None:
    buffer = _buffer()
    buffer.add([record(5), record(6), record(9), record(10)], 0)
    draft = buffer.build_draft(ArchivePolicy(max_records=2))
    assert ([one.offset for one in draft.records], draft.next_offset, draft.gaps) == ([5, 6], 7, ())
    assert buffer.rebase(_tail(7)) == [record(5), record(6)]
    rest = buffer.build_draft(POLICY)
    assert ([one.offset for one in rest.records], rest.next_offset, rest.gaps) == ([9, 10], 11, ((7, 9),))


def test_a_draft_keeps_to_the_bytes_but_takes_one_record_at_least() -> None:
    buffer = _buffer()
    buffer.add([record(offset, value=b"x" * 100) for offset in range(5, 10)], 0)
    size = count_bytes(record(5, value=b"x" * 100))
    assert len(buffer.build_draft(ArchivePolicy(max_bytes=3 * size)).records) == 3
    assert len(buffer.build_draft(ArchivePolicy(max_bytes=3 * size - 1)).records) == 2
    assert len(buffer.build_draft(ArchivePolicy(max_bytes=1)).records) == 1


def test_after_a_rebase_only_records_after_the_new_tail_wait() -> None:
    buffer = _buffer()
    buffer.skip(8, 1.0)
    buffer.add([record(8), record(9)], 2.0)
    assert not buffer.rebase(_tail(7))
    assert buffer.build_draft(POLICY).gaps == ((7, 8),)
    assert buffer.rebase(_tail(9)) == [record(8)]
    assert buffer.waiting == Waiting(1, count_bytes(record(9)), 2.0, 2.0)


def test_after_a_rebase_to_a_tail_that_covers_all_nothing_waits() -> None:
    buffer = _buffer()
    buffer.add([record(5)], 0)
    assert buffer.rebase(_tail(20)) == [record(5)]
    assert buffer.waiting is None
    assert (buffer.size, buffer.next_offset) == (0, 20)

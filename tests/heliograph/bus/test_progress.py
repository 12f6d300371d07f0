"""`Progress` against a naive model: it skips no record and repeats none, whatever is handed out, finished, restarted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heliograph.bus.progress import NOTE_LIMIT, Progress, by_partition
from schemas.record import Position, Record, TopicPartition


def records(offsets: Sequence[int]) -> list[Record]:
    return [Record("t", 0, offset, 0, None, (), b"") for offset in offsets]


def offsets_of(taken: Sequence[Record]) -> list[int]:
    return [record.offset for record in taken]


def fetch(held: Sequence[int], position: int, limit: int) -> list[Record]:
    return records([offset for offset in held if offset >= position][:limit])


class ProgressMachine(RuleBasedStateMachine):
    """A partition with holes, one group, and sets of offsets as the model."""

    @initialize(
        holes=st.lists(st.integers(1, 4), min_size=1, max_size=60), first=st.sampled_from([0, 7, 10**12])
    )
    def begin(self, holes: list[int], first: int) -> None:
        self.held: list[int] = []
        at = first
        for hole in holes:
            self.held.append(at)
            at += hole
        self.progress = Progress(first)
        self.out: set[int] = set()
        self.finished: set[int] = set()
        self.lost: set[int] = set()

    @rule(limit=st.integers(1, 20))
    def hand_out(self, limit: int) -> None:
        fetched = fetch(self.held, self.progress.position, limit)
        taken = offsets_of(self.progress.take(fetched))
        assert taken == [record.offset for record in fetched if record.offset not in self.finished]
        assert self.out.isdisjoint(taken)
        self.out.update(taken)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.out)), min_size=1, unique=True))
        self.progress.finish(some)
        self.out.difference_update(some)
        self.finished.update(some)

    @rule(offsets=st.lists(st.integers(0, 300), unique=True))
    def finish_what_cannot_be_stored(self, offsets: list[int]) -> None:
        cursor, note = self.progress.cursor, self.progress.note()
        finished = self.progress.finish(offsets)
        assert finished == [offset for offset in offsets if offset in self.out]
        self.progress.reopen(finished)
        assert (self.progress.cursor, self.progress.note()) == (cursor, note)

    @precondition(lambda self: self.out)
    @rule()
    def finish_all(self) -> None:
        self.progress.finish(self.out)
        self.finished |= self.out
        self.out.clear()

    @rule(offset=st.integers(0, 300))
    def finish_what_is_not_handed_out(self, offset: int) -> None:
        if offset not in self.out:
            self.progress.finish([offset])

    @rule(limit=st.sampled_from([0, 3, 9, 30, NOTE_LIMIT]))
    def restart(self, limit: int) -> None:
        """Restarts from a note. The model forgets only the ranges that did not fit, all farther from the cursor than those kept."""
        cursor, note = self.progress.cursor, self.progress.note(limit)
        assert len(note) <= limit
        self.progress = Progress.from_note(cursor, note)
        self.out.clear()
        kept = {offset for offset in self.held if offset < cursor} | known(self.progress, self.held)
        assert kept <= self.finished | self.lost
        forgotten = self.finished - kept
        assert limit < NOTE_LIMIT or not forgotten
        assert not forgotten or min(forgotten) > max((kept & self.finished), default=-1)
        self.finished -= forgotten

    @rule(data=st.data())
    def lose_the_head_of_the_log(self, data: st.DataObject) -> None:
        keep = data.draw(st.sampled_from(self.held))
        self.progress.skip_to(keep)
        self.lost.update(offset for offset in self.held if offset < keep)

    @invariant()
    def the_cursor_is_the_lowest_unfinished(self) -> None:
        if self.out:
            assert self.progress.cursor == min(self.out)
        assert self.progress.unfinished == len(self.out)
        skipped = {offset for offset in self.held if offset < self.progress.cursor}
        assert skipped <= self.finished | self.lost


def known(progress: Progress, held: Sequence[int]) -> set[int]:
    """Finds the offsets that a restarted progress takes for finished, by draining a second one."""
    drained = Progress.from_note(progress.cursor, progress.note())
    taken = offsets_of(drained.take(fetch(held, drained.position, len(held))))
    return {offset for offset in held if offset >= progress.cursor} - set(taken)


TestProgress = ProgressMachine.TestCase
TestProgress.settings = settings(max_examples=150, stateful_step_count=40)


def test_the_cursor_is_the_lowest_unfinished_offset_and_the_note_holds_the_rest() -> None:
    progress = Progress(10)
    progress.take(records(range(10, 30)))
    progress.finish([13, 14, 15, 29, 20])
    assert (progress.cursor, progress.note()) == (10, "3+3,4+1,8+1")
    progress.finish([10, 11, 12])
    assert (progress.cursor, progress.note()) == (16, "4+1,8+1")


def test_holes_between_offsets_count_as_finished() -> None:
    progress = Progress(0)
    progress.take(records([0, 2, 4, 90]))
    progress.finish([0, 2, 4])
    assert (progress.cursor, progress.note()) == (90, "")
    progress.finish([90])
    assert (progress.cursor, progress.note()) == (91, "")


def test_after_a_restart_only_unfinished_records_are_handed_out() -> None:
    progress = Progress.from_note(10, "3+3,4+1,8+1")
    assert offsets_of(progress.take(records(range(10, 15)))) == [10, 11, 12]
    assert progress.position == 16
    assert offsets_of(progress.take(records(range(16, 35)))) == [
        *(16, 17, 18, 19),
        *(21, 22, 23, 24, 25, 26, 27, 28),
        *(30, 31, 32, 33, 34),
    ]


def test_a_note_keeps_ranges_that_are_not_reached_yet() -> None:
    progress = Progress.from_note(10, "3+3,4+1,8+1")
    progress.take(records([10]))
    progress.finish([10])
    assert (progress.cursor, progress.note()) == (11, "2+3,4+1,8+1")


def test_a_note_that_is_too_long_keeps_the_ranges_nearest_to_the_cursor() -> None:
    progress = Progress(0)
    progress.take(records(range(10_000)))
    progress.finish(range(1, 10_000, 2))
    note = progress.note()
    assert NOTE_LIMIT - 4 < len(note) <= NOTE_LIMIT
    again = offsets_of(Progress.from_note(0, note).take(records(range(10_000))))
    kept = len(note.split(","))
    assert again == [*range(0, kept * 2, 2), *range(kept * 2, 10_000)]


@pytest.mark.parametrize(
    "note", ["", "moved by hand", "3", "3+", "3+1,", "-1+2", "1+1;2+2", "٣+١", "9" * 30 + "+1"]
)
def test_a_note_of_another_form_counts_as_empty(note: str) -> None:
    progress = Progress.from_note(5, note)
    assert (progress.position, progress.note()) == (5, "")
    assert offsets_of(progress.take(records(range(5, 9)))) == [5, 6, 7, 8]


def test_a_seek_forgets_the_records_handed_out() -> None:
    progress = Progress.from_note(0, "5+2")
    progress.take(records([0, 1, 2]))
    progress.seek(1)
    progress.finish([2])
    assert (progress.position, progress.cursor, progress.note()) == (1, 1, "")
    assert offsets_of(progress.take(records(range(1, 9)))) == list(range(1, 9))


def test_taking_no_records_changes_nothing() -> None:
    progress = Progress(5)
    assert list(progress.take([])) == []
    assert progress.position == 5


def test_positions_are_grouped_by_partition() -> None:
    positions = [Position("a", 0, 4), Position("b", 1, 9), Position("a", 0, 2), Position("a", 1, 4)]
    assert by_partition(positions) == {
        TopicPartition("a", 0): [4, 2],
        TopicPartition("b", 1): [9],
        TopicPartition("a", 1): [4],
    }

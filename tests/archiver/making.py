"""Records, drafts and chains for the archiver's tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from archiver.format.segment import Draft, Span
from archiver.write.chain import Stored, Tail, append_segment
from heliograph.store.base import ObjectStore
from schemas.record import Headers, Record

TOPIC = "events.ecs.disk"
LOG = "log-1"

headers: st.SearchStrategy[Headers] = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), st.binary(max_size=8)), max_size=4
).map(tuple)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    """Draws records of one partition, in order, of any bytes."""
    offsets = sorted(draw(st.sets(st.integers(0, 2**62), max_size=6)))
    return [
        Record(
            TOPIC,
            0,
            offset,
            draw(st.integers(-(2**62), 2**62)),
            draw(st.none() | st.binary(max_size=9)),
            draw(headers),
            draw(st.binary(max_size=40)),
        )
        for offset in offsets
    ]


def record(offset: int, *, partition: int = 0, timestamp: int | None = None, value: bytes = b"") -> Record:
    """Makes a record that differs from others by its offset."""
    when = 1_700_000_000_000 + offset if timestamp is None else timestamp
    return Record(
        TOPIC, partition, offset, when, b"k%d" % offset, (("n", b"%d" % offset),), value or b"v%d" % offset
    )


def draft(offsets: Iterable[int], gaps: Sequence[Span] = ()) -> Draft:
    """Makes a draft with records of these offsets."""
    records = [record(offset) for offset in offsets]
    end = max([*(one.offset + 1 for one in records), *(end for _, end in gaps)])
    return Draft(records, end, tuple(gaps))


def chain(store: ObjectStore, *ranges: range, tail: Tail | None = None) -> Tail:
    """Stores a segment for each range; returns the tail."""
    tail = tail or Tail(LOG, TOPIC, 0)
    for offsets in ranges:
        outcome = append_segment(store, tail, draft(offsets))
        assert isinstance(outcome, Stored)
        tail = outcome.tail
    return tail

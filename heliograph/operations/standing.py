"""How dead letters stand: which got through after all, which were dropped, which are under way again."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import lru_cache

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.operations.deliveries import unfinished
from schemas.delivery import VerdictState
from schemas.record import Record
from schemas.topics import VERDICTS

_NONE: frozenset[str] = frozenset()


class _Ending(msgspec.Struct, gc=False):
    """Of a verdict, what says how a letter stands."""

    delivery: str
    state: VerdictState
    redrive: str = ""


_decoder = msgspec.json.Decoder(_Ending)


class Standing:
    """What the log says of the deliveries that are watched, all of which have died once; followed as it grows.

    It is made before the letters are looked for: so whatever leaves the log's lists of what is under way meanwhile
    has a verdict that is read later. Of what was never redriven its id is in memory, and no more.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._next = unfinished(bus)
        self._watched: AbstractSet[str] = _NONE
        self._settled: dict[str, VerdictState] = {}
        self._brought_back: dict[str, frozenset[str]] = {}
        self._ended: dict[str, frozenset[str]] = {}

    def watch(self, deliveries: AbstractSet[str], since: int, archived: Iterable[Record]) -> None:
        """Read what became of these. `since`: when the first of their events was appended, milliseconds since the
        epoch. `archived`: verdicts that the log does not have any more."""
        self._watched = deliveries
        for record in archived:
            self._take_verdict(record)
        for partition in self._bus.extents(VERDICTS):
            self._next[partition] = self._bus.offset_at(partition, since)
        self.follow()

    def follow(self, ignored: str = "") -> None:
        """Read what came since. `ignored`: a redrive whose own doings need not be remembered."""
        for topic in sorted({partition.topic for partition in self._next}):
            for partition, extent in self._bus.extents(topic).items():
                offset = self._next.get(partition, extent.start)
                for record in read_on(self._bus, partition, offset, extent.end):
                    self._take(record, ignored)
                self._next[partition] = max(offset, extent.end)

    def ended_as(self, delivery: str) -> VerdictState | None:
        """`delivered` or `dropped`, if it is a letter no more; precedence as `VerdictState` has it."""
        return self._settled.get(delivery)

    def is_under_way(self, delivery: str) -> bool:
        """Whether a redrive brought it back and it has not ended since."""
        return bool(self._brought_back.get(delivery, _NONE) - self._ended.get(delivery, _NONE))

    def was_brought_back_by(self, redrive: str, delivery: str) -> bool:
        """Whether that redrive has appended it, whatever became of it."""
        return redrive in self._brought_back.get(delivery, _NONE) or redrive in self._ended.get(
            delivery, _NONE
        )

    def _take(self, record: Record, ignored: str) -> None:
        if record.topic == VERDICTS:
            self._take_verdict(record, ignored)
            return
        delivery, redrive = record.header("delivery"), record.header("redrive")
        if delivery and redrive and redrive != ignored.encode():
            _note(self._brought_back, self._watched, delivery.decode(), redrive.decode())

    def _take_verdict(self, record: Record, ignored: str = "") -> None:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            ending = _decoder.decode(record.value)
            if ending.delivery not in self._watched or (ignored and ending.redrive == ignored):
                return
            _note(self._ended, self._watched, ending.delivery, ending.redrive)
            if self._settled.get(ending.delivery) is not VerdictState.DELIVERED and ending.state in _SETTLING:
                self._settled[ending.delivery] = ending.state


_SETTLING = {VerdictState.DELIVERED, VerdictState.DROPPED}


def _note(
    redrives: dict[str, frozenset[str]], watched: AbstractSet[str], delivery: str, redrive: str
) -> None:
    if redrive and delivery in watched:
        redrives[delivery] = _joined(redrives.get(delivery, _NONE), redrive)


@lru_cache(1024)
def _joined(redrives: frozenset[str], redrive: str) -> frozenset[str]:
    """One set for all that were brought back by the same: a million of them share it."""
    return redrives | {redrive}

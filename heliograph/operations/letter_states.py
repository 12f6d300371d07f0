"""The states of dead letters: delivered after all, dropped, under way again, or still dead."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import lru_cache

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.operations.deliveries import DeliveryStatus, find_unfinished
from schemas.delivery import VerdictState
from schemas.record import Record
from schemas.topics import VERDICTS

_NONE: frozenset[str] = frozenset()


class _Ending(msgspec.Struct, gc=False):
    """The fields of a verdict that decide the state of a dead letter."""

    delivery: str
    state: VerdictState
    redrive: str = ""


_decoder = msgspec.json.Decoder(_Ending)


class LetterStates:
    """The states of watched deliveries, all of which have died once; `follow` reads the topics' new records.

    Build it before reading the dead letters: then `watch` also finds the verdict of a delivery that ends in between. Of
    a delivery that was never redriven, only the id is held in memory.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._next = find_unfinished(bus)
        self._watched: AbstractSet[str] = _NONE
        self._settled: dict[str, VerdictState] = {}
        self._brought_back: dict[str, frozenset[str]] = {}
        self._ended: dict[str, frozenset[str]] = {}

    def watch(self, deliveries: AbstractSet[str], since: int, archived: Iterable[Record]) -> None:
        """Reads the states of these deliveries.

        `since`: time at which the first of their events was appended, in milliseconds since the epoch. `archived`:
        records of verdicts that only the archive has.
        """
        self._watched = deliveries
        for record in archived:
            self._apply_verdict(record)
        for partition in self._bus.extents(VERDICTS):
            self._next[partition] = self._bus.offset_at(partition, since)
        self.follow()

    def follow(self, ignored: str = "") -> None:
        """Reads new records. `ignored`: id of a redrive whose own deliveries and verdicts are not stored."""
        for topic in sorted({partition.topic for partition in self._next}):
            for partition, extent in self._bus.extents(topic).items():
                offset = self._next.get(partition, extent.start)
                for record in read_on(self._bus, partition, offset, extent.end):
                    self._apply(record, ignored)
                self._next[partition] = max(offset, extent.end)

    def ended_as(self, delivery: str) -> VerdictState | None:
        """Returns `DELIVERED` or `DROPPED`; None if the delivery is still a dead letter or under way again."""
        return self._settled.get(delivery)

    def find_state(self, delivery: str) -> DeliveryStatus:
        """Returns the state that a listing shows: under way, delivered, dropped, or dead."""
        if self.is_under_way(delivery):
            return DeliveryStatus.UNDER_WAY
        return DeliveryStatus(self.ended_as(delivery) or VerdictState.DEAD)

    def is_under_way(self, delivery: str) -> bool:
        """True if a redrive brought the delivery back and it has no verdict since."""
        return bool(self._brought_back.get(delivery, _NONE) - self._ended.get(delivery, _NONE))

    def was_brought_back_by(self, redrive: str, delivery: str) -> bool:
        """True if that redrive has appended the delivery, whether or not it has ended since."""
        return redrive in self._brought_back.get(delivery, _NONE) or redrive in self._ended.get(
            delivery, _NONE
        )

    def _apply(self, record: Record, ignored: str) -> None:
        if record.topic == VERDICTS:
            self._apply_verdict(record, ignored)
            return
        delivery, redrive = record.header("delivery"), record.header("redrive")
        if delivery and redrive and redrive != ignored.encode():
            _add(self._brought_back, self._watched, delivery.decode(), redrive.decode())

    def _apply_verdict(self, record: Record, ignored: str = "") -> None:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            ending = _decoder.decode(record.value)
            if ending.delivery not in self._watched or (ignored and ending.redrive == ignored):
                return
            _add(self._ended, self._watched, ending.delivery, ending.redrive)
            if self._settled.get(ending.delivery) is not VerdictState.DELIVERED and ending.state in _SETTLING:
                self._settled[ending.delivery] = ending.state


_SETTLING = {VerdictState.DELIVERED, VerdictState.DROPPED}


def _add(redrives: dict[str, frozenset[str]], watched: AbstractSet[str], delivery: str, redrive: str) -> None:
    if redrive and delivery in watched:
        redrives[delivery] = _with_redrive(redrives.get(delivery, _NONE), redrive)


@lru_cache(1024)
def _with_redrive(redrives: frozenset[str], redrive: str) -> frozenset[str]:
    """Adds a redrive to a set; deliveries of the same redrives share one set, however many they are."""
    return redrives | {redrive}

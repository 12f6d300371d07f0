"""Dead letters: finds them in topics and archive, reads their states, and drops them.

A few hundred bytes of each letter are held in memory, without its event: events are read from the topic or the archive,
a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from sys import intern

import msgspec

from archiver.read.reader import SegmentInfo
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.operations.deliveries import DeliveryState, DeliveryStatus, read_states
from heliograph.operations.history import History
from heliograph.operations.letter_states import LetterStates
from heliograph.operations.times import OPEN_END
from schemas.clock import Clock
from schemas.delivery import (
    Delivery,
    Exhausted,
    ReasonCode,
    Verdict,
    VerdictState,
    read_delivery,
    verdict_record,
)
from schemas.errors import InputError, InvalidNotification, NotFound
from schemas.notification import read_routing
from schemas.record import Record, TopicPartition
from schemas.topics import DEAD_LETTERS, VERDICTS

BATCH = 1000
"""Number of letters that are held in memory with their events, and the largest number of records in one append."""

_SKEW = 3_600_000
"""Milliseconds by which the clocks of brokers may differ, so that a verdict may seem older than its event."""

_CLOSE = 200
"""Largest distance in offsets between two letters of a partition that one read fetches together."""


class Letter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A dead letter without its event, and the place of its record.

    `at`: time at which the delivery died; `event_time`: time at which its event was appended; both in milliseconds
    since the epoch. `event_offset`: the offset of the event. `redrive`: id of the redrive in which it died, if any.
    `segment`: the archived file with its record; None if the bus has it.
    """

    id: str
    target: str
    subscription: str
    resource: str
    event_time: int
    event_offset: int
    at: int
    error: str
    exhausted: str
    redrive: str
    partition: int
    offset: int
    segment: SegmentInfo | None


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects dead letters; an empty field selects all.

    `since` (inclusive) and `until` (exclusive): time at which the delivery died, in milliseconds since the epoch.
    `name`: name of the event, a pattern with `*`. `resource`: an id or an ARN. `deliveries`: delivery ids.
    """

    target: str = ""
    subscription: str = ""
    since: int = 0
    until: int = OPEN_END
    error: ReasonCode | None = None
    exhausted: Exhausted | None = None
    name: str = ""
    resource: str = ""
    deliveries: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True if it selects every letter."""
        return self == ALL

    def selects(self, delivery: Delivery) -> bool:
        """True if the delivery matches every field except the time and the cause of its death."""
        return (
            (not self.deliveries or delivery.id in self.deliveries)
            and (not self.target or delivery.target == self.target)
            and (not self.subscription or delivery.subscription == self.subscription)
            and (
                not self.resource
                or self.resource in {delivery.resource, delivery.resource.rpartition("/")[2]}
            )
            and (not self.name or fnmatchcase(_event_name(delivery.event), self.name))
        )

    def selects_death(self, letter: Letter) -> bool:
        """True if the letter matches the time and the cause of the death."""
        return (
            self.since <= letter.at < self.until
            and (self.error is None or letter.error == self.error)
            and (self.exhausted is None or letter.exhausted == self.exhausted)
        )


ALL = LetterFilter()
"""The filter that selects every letter."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A dead letter with its event. `state`: `DEAD`, or the later state of the delivery."""

    letter: Letter
    record: Record
    delivery: Delivery
    state: DeliveryStatus = DeliveryStatus.DEAD

    @property
    def message(self) -> str:
        """The last error, in one line."""
        return (self.record.header("errorMessage") or b"").decode(errors="replace")


class DropPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The letters that `drop` will drop.

    `under_way`: number of selected letters that `drop` leaves alone, since their deliveries are under way again. `by`
    (`user@host`) and `why` are kept in the verdicts.
    """

    letters: Sequence[Letter]
    under_way: int
    by: str
    why: str


def list_letters(
    history: History, selection: LetterFilter = ALL, *, include_dropped: bool = False
) -> Iterator[DeadLetter]:
    """Lists the selected dead letters with their events, by time of death, the oldest first.

    Dropped letters are listed if `include_dropped` is true or the filter names their ids. Raises BusError;
    `history.problem` says if the archive could not be read.
    """
    letters, states = find_letters(history, selection, include_dropped=include_dropped)
    for batch in read_letters(history, letters):
        for one in batch:
            yield msgspec.structs.replace(one, state=states.find_state(one.letter.id))


def find_letter(history: History, delivery: str) -> tuple[DeadLetter, DeliveryState]:
    """Finds a dead letter by its delivery id, even a dropped one, with the delivery's state.

    Raises NotFound, BusError.
    """
    letters, _ = find_letters(history, LetterFilter(deliveries=frozenset({delivery})))
    for batch in read_letters(history, letters):
        for one in batch:
            state = read_states(history, [delivery], one.letter.event_time)[delivery]
            return msgspec.structs.replace(one, state=state.state), state
    raise _not_found(delivery)


def plan_drop(history: History, selection: LetterFilter, *, by: str, why: str) -> DropPlan:
    """Finds the letters that `drop` will drop; appends nothing.

    `by` (`user@host`) and `why` are kept in the verdicts. Raises InputError without a reason, NotFound if the filter
    names a delivery id that is not a dead letter, BusError.
    """
    if not why.strip():
        raise InputError("why: is missing; give the reason, which the verdicts keep")
    letters, states = find_letters(history, selection)
    require_named(selection, letters)
    dead = [one for one in letters if states.find_state(one.id) is DeliveryStatus.DEAD]
    under_way = sum(states.is_under_way(one.id) for one in letters)
    return DropPlan(letters=dead, under_way=under_way, by=by, why=why)


def drop(
    history: History, plan: DropPlan, clock: Clock, *, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Appends the verdict `dropped` for each letter of a plan; returns the number of letters.

    `advance` is called after each batch with the number of its letters. Raises BusError.
    """
    count = 0
    for batch in read_letters(history, plan.letters):
        append_dropped(history.bus, batch, clock.now(), by=plan.by, why=plan.why)
        count += len(batch)
        advance(len(batch))
    return count


def find_letters(
    history: History,
    selection: LetterFilter,
    *,
    include_dropped: bool = False,
    sent_as: Callable[[str], str] = str,
) -> tuple[list[Letter], LetterStates]:
    """Finds the selected deliveries that are still dead letters, by time of death, and the states of all selected ones.

    Leaves out deliveries that were delivered since, and dropped ones unless `include_dropped` or the filter names their
    ids. `sent_as` returns the id under which a redrive sends a delivery; the states of these ids are read too.
    """
    states = LetterStates(history.bus)
    letters = _find_newest(history, selection)
    if letters:
        watched = {watched for letter in letters for watched in (letter.id, sent_as(letter.id))}
        since = max(0, min(letter.event_time for letter in letters) - _SKEW)
        states.watch(watched, since, (record for _, record in history.archived(VERDICTS, since)))
    kept = {None, VerdictState.DROPPED} if include_dropped or selection.deliveries else {None}
    return [letter for letter in letters if states.ended_as(letter.id) in kept], states


def require_filter(selection: LetterFilter, *, everything: bool) -> None:
    """Raises InputError if the filter selects every letter, unless the operator asked for `everything`."""
    if selection.is_empty and not everything:
        raise InputError(
            "no filter given: select dead letters (--target, --since …), or give --all for every one"
        )


def require_named(selection: LetterFilter, found: Iterable[Letter]) -> None:
    """Raises NotFound if the filter names a delivery id that is not among the letters found."""
    for missing in sorted(selection.deliveries.difference(letter.id for letter in found)):
        raise _not_found(missing)


def read_letters(
    history: History, letters: Sequence[Letter], size: int = BATCH
) -> Iterator[list[DeadLetter]]:
    """Reads letters with their events, in order, in batches of `size`; leaves out records that have been removed."""
    for start in range(0, len(letters), size):
        batch = letters[start : start + size]
        records = _read_from_bus(history.bus, [letter for letter in batch if letter.segment is None])
        found: list[DeadLetter] = []
        for letter in batch:
            if letter.segment is None:
                record = records.get((letter.partition, letter.offset))
            else:
                record = history.fetch(letter.segment, letter.offset)
            if record is not None and record.header("delivery") == letter.id.encode():
                found.append(DeadLetter(letter=letter, record=record, delivery=read_delivery(record)))
        yield found


def append_dropped(
    bus: Bus, letters: Iterable[DeadLetter], now: int, *, by: str, why: str, redrive: str | None = None
) -> None:
    """Appends the verdict `dropped` for each of these letters, in one append.

    `redrive`: id of the redrive that drops them; None keeps the id of the redrive in which each letter died.
    """
    records = [
        verdict_record(
            Verdict(
                delivery=one.delivery.id,
                state=VerdictState.DROPPED,
                source=str(one.delivery.source),
                subscription=one.delivery.subscription,
                target=one.delivery.target,
                resource=one.delivery.resource,
                at=now,
                configuration=one.delivery.configuration,
                attempts=one.delivery.attempts,
                redrive=one.delivery.redrive if redrive is None else redrive,
                by=by,
                why=why,
            )
        )
        for one in letters
    ]
    if records:
        bus.append(records)


def _not_found(delivery: str) -> NotFound:
    return NotFound(
        f"delivery {delivery!r}: not a dead letter that the filter selects; `heliograph deliveries show` prints its state"
    )


def _find_newest(history: History, selection: LetterFilter) -> list[Letter]:
    """Finds the newest letter of each selected delivery, whatever its state is now."""
    newest: dict[str, Letter] = {}
    for segment, record in history.read(DEAD_LETTERS, selection.since):
        try:
            delivery = read_delivery(record)
        except (KeyError, ValueError):
            continue  # erased, or written by another program
        if selection.selects(delivery):
            known = newest.get(delivery.id)
            if known is None or (known.at, known.segment is None) < (record.timestamp, segment is None):
                newest[delivery.id] = _letter(delivery, record, segment)
    return sorted(filter(selection.selects_death, newest.values()), key=attrgetter("at", "id"))


def _letter(delivery: Delivery, record: Record, segment: SegmentInfo | None) -> Letter:
    headers = dict(record.headers)
    return Letter(
        id=delivery.id,
        target=intern(delivery.target),
        subscription=intern(delivery.subscription),
        resource=intern(delivery.resource),
        event_time=delivery.event_time,
        event_offset=delivery.source.offset,
        at=record.timestamp,
        error=intern(headers.get("errorCode", b"").decode(errors="replace")),
        exhausted=intern(headers.get("exhaustedRetryCondition", b"").decode(errors="replace")),
        redrive=intern(delivery.redrive),
        partition=record.partition,
        offset=record.offset,
        segment=segment,
    )


def _read_from_bus(bus: Bus, letters: Sequence[Letter]) -> dict[tuple[int, int], Record]:
    """Reads the records of letters, by partition and offset; letters close to each other with one read."""
    places = {(letter.partition, letter.offset) for letter in letters}
    runs: list[tuple[int, int, int]] = []
    for partition, offset in sorted(places):
        if runs and runs[-1][0] == partition and offset - runs[-1][2] <= _CLOSE:
            runs[-1] = (partition, runs[-1][1], offset)
        else:
            runs.append((partition, offset, offset))
    return {
        (record.partition, record.offset): record
        for partition, first, last in runs
        for record in read_on(bus, TopicPartition(DEAD_LETTERS, partition), first, last + 1)
        if (partition, record.offset) in places
    }


def _event_name(event: bytes) -> str:
    try:
        return read_routing(event).name
    except InvalidNotification:
        return ""

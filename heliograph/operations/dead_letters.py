"""Dead letters: finding them in log and archive, telling how they stand, and dropping them.

Of each letter some hundred bytes are in memory, never its event: that is fetched again from where it lies, a batch at
a time.
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
from heliograph.operations.history import History
from heliograph.operations.standing import Standing
from schemas.delivery import (
    Delivery,
    Exhausted,
    ReasonCode,
    Verdict,
    VerdictState,
    read_delivery,
    verdict_record,
)
from schemas.errors import InvalidNotification
from schemas.notification import read_routing
from schemas.record import Record, TopicPartition
from schemas.topics import DEAD_LETTERS, VERDICTS

BATCH = 1000
"""Letters that are read and dealt with at a time: what is in memory whole, and what one append holds at most."""

_SKEW = 3_600_000
"""Milliseconds by which clocks of brokers may differ: no verdict is older than its event by more."""

_CLOSE = 200
"""Letters of a partition that lie no further apart are read in one go."""


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A dead letter without its event: what it is about, and where it lies.

    `at`: when it died, `event_time`: when the log took its event, milliseconds since the epoch; `place`: the event's
    offset. `redrive`: the one that it died of. `segment` None: it lies in the log.
    """

    id: str
    target: str
    subscription: str
    resource: str
    event_time: int
    place: int
    at: int
    error: str
    exhausted: str
    redrive: str
    partition: int
    offset: int
    segment: SegmentInfo | None


class Wanted(msgspec.Struct, frozen=True):
    """Which letters are asked for; what is empty asks for all. `since` (inclusive), `until` (exclusive): when it died,
    milliseconds since the epoch. `name`: of the event, a pattern with `*`. `resource`: an id or an ARN. `deliveries`:
    ids."""

    target: str = ""
    subscription: str = ""
    since: int = 0
    until: int = 2**62
    error: ReasonCode | None = None
    exhausted: Exhausted | None = None
    name: str = ""
    resource: str = ""
    deliveries: frozenset[str] = frozenset()

    def is_about(self, delivery: Delivery) -> bool:
        """Whether it is asked for by what is the same of all letters of a delivery."""
        return (
            (not self.deliveries or delivery.id in self.deliveries)
            and (not self.target or delivery.target == self.target)
            and (not self.subscription or delivery.subscription == self.subscription)
            and (
                not self.resource
                or self.resource in {delivery.resource, delivery.resource.rpartition("/")[2]}
            )
            and (not self.name or fnmatchcase(_name_of(delivery.event), self.name))
        )

    def is_met_by(self, letter: Letter) -> bool:
        """Whether it is asked for by how it died."""
        return (
            self.since <= letter.at < self.until
            and (self.error is None or letter.error == self.error)
            and (self.exhausted is None or letter.exhausted == self.exhausted)
        )


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A letter whole, with its record."""

    letter: Letter
    record: Record
    delivery: Delivery

    @property
    def message(self) -> str:
        """What went wrong, in a line."""
        return (self.record.header("errorMessage") or b"").decode(errors="replace")


def find_standing(
    history: History, wanted: Wanted, *, dropped: bool = False, also: Callable[[str], str] = str
) -> tuple[list[Letter], Standing]:
    """The letters that are asked for and are letters still, by when they died, the oldest first; and how they stand.

    What got through after all is none, nor what was dropped, unless `dropped` or named by its id. `also`: the id under
    which a delivery may have been sent as new, which is watched, too.
    """
    standing = Standing(history.bus)
    letters = _find_letters(history, wanted)
    if letters:
        watched = {watched for letter in letters for watched in (letter.id, also(letter.id))}
        since = max(0, min(letter.event_time for letter in letters) - _SKEW)
        standing.watch(watched, since, (record for _, record in history.archived(VERDICTS, since)))
    kept = {None, VerdictState.DROPPED} if dropped or wanted.deliveries else {None}
    return [letter for letter in letters if standing.ended_as(letter.id) in kept], standing


def _find_letters(history: History, wanted: Wanted) -> list[Letter]:
    """The newest letter of each delivery, if it is asked for, whatever became of it since."""
    newest: dict[str, Letter] = {}
    for segment, record in history.read(DEAD_LETTERS, wanted.since):
        try:
            delivery = read_delivery(record)
        except (KeyError, ValueError):
            continue  # others may write to the log as well, and what was erased has no headers
        if wanted.is_about(delivery):
            known = newest.get(delivery.id)
            if known is None or (known.at, known.segment is None) < (record.timestamp, segment is None):
                newest[delivery.id] = _letter(delivery, record, segment)
    return sorted(filter(wanted.is_met_by, newest.values()), key=attrgetter("at", "id"))


def read_letters(
    history: History, letters: Sequence[Letter], size: int = BATCH
) -> Iterator[list[DeadLetter]]:
    """The letters whole, in their order, in batches of `size`; one that is not there any more is left out."""
    for start in range(0, len(letters), size):
        batch = letters[start : start + size]
        records = _from_log(history.bus, [letter for letter in batch if letter.segment is None])
        found: list[DeadLetter] = []
        for letter in batch:
            if letter.segment is None:
                record = records.get((letter.partition, letter.offset))
            else:
                record = history.fetch(letter.segment, letter.offset)
            if record is not None and record.header("delivery") == letter.id.encode():
                found.append(DeadLetter(letter, record, read_delivery(record)))
        yield found


def drop_letters(
    bus: Bus, letters: Iterable[DeadLetter], now: int, *, by: str, why: str, redrive: str | None = None
) -> None:
    """Append the verdicts `dropped` of these letters, in one append. `redrive`: of the redrive that drops them."""
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


def _letter(delivery: Delivery, record: Record, segment: SegmentInfo | None) -> Letter:
    headers = dict(record.headers)
    return Letter(
        delivery.id,
        intern(delivery.target),
        intern(delivery.subscription),
        intern(delivery.resource),
        delivery.event_time,
        delivery.source.offset,
        record.timestamp,
        intern(headers.get("errorCode", b"").decode(errors="replace")),
        intern(headers.get("exhaustedRetryCondition", b"").decode(errors="replace")),
        intern(delivery.redrive),
        record.partition,
        record.offset,
        segment,
    )


def _from_log(bus: Bus, letters: Sequence[Letter]) -> dict[tuple[int, int], Record]:
    """The records of letters by partition and offset, with few reads, however they lie."""
    wanted = {(letter.partition, letter.offset) for letter in letters}
    runs: list[tuple[int, int, int]] = []
    for partition, offset in sorted(wanted):
        if runs and runs[-1][0] == partition and offset - runs[-1][2] <= _CLOSE:
            runs[-1] = (partition, runs[-1][1], offset)
        else:
            runs.append((partition, offset, offset))
    return {
        (record.partition, record.offset): record
        for partition, first, last in runs
        for record in read_on(bus, TopicPartition(DEAD_LETTERS, partition), first, last + 1)
        if (partition, record.offset) in wanted
    }


def _name_of(event: bytes) -> str:
    try:
        return read_routing(event).name
    except InvalidNotification:
        return ""

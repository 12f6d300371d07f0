"""Redrive: dead letters go back to `deliveries`, each once, at a rate, and so that it can be gone on with.

Nothing about a redrive is kept but what it appends: its id is in the headers of every delivery and in the verdicts that
follow, and there a redrive that is resumed finds what was done (docs/decisions).
"""

from __future__ import annotations

import enum
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.partition import partition_for
from heliograph.operations.dead_letters import (
    BATCH,
    DeadLetter,
    Letter,
    Wanted,
    drop_letters,
    find_standing,
    read_letters,
)
from heliograph.operations.history import History
from heliograph.operations.standing import Standing
from router.configuration import Configuration
from router.deliver.target_states import TargetStates
from schemas.clock import Clock
from schemas.delivery import Delivery, VerdictState, delivery_record, redriven_id
from schemas.delivery_settings import RecordTarget
from schemas.lanes import lane_key, lane_of
from schemas.record import NewRecord
from schemas.subscription import Target
from schemas.target_state import TargetStatus
from schemas.topics import DELIVERIES

RATE = 100.0
"""Deliveries a second, where nothing else is said: a receiver that has just come back is not flooded, and new events
of other targets do not wait behind a redrive."""


class Order(enum.StrEnum):
    """In which order letters are sent, and which."""

    OLDEST = "oldest"  # all of them, by when the log took their events
    NEWEST_PER_RESOURCE = (
        "newest-per-resource"  # of a resource's events only the newest, the newest of all first
    )


class Fate(enum.StrEnum):
    """What a redrive does with a letter."""

    SENT = "sent"
    OLDER = "older"  # dropped, because a newer state of the resource is sent
    DONE = "sent-before"  # by this redrive, before it was interrupted
    UNDER_WAY = "under-way"  # another one brought it back
    CHANGED = "changed"  # delivered, dropped or brought back by somebody else since this one began
    MISSING = "missing"  # its record cannot be read any more
    NO_TARGET = "no-target"  # it was deleted
    SUSPENDED = "suspended"  # its target is: it would die again at once


REFUSED = frozenset({Fate.MISSING, Fate.NO_TARGET, Fate.SUSPENDED})
"""What stays a dead letter although it was asked for."""


class Redrive(msgspec.Struct, frozen=True):
    """What to redrive and how. One that is resumed is the same once more. `rate`: deliveries a second. `by`:
    `user@host`, kept in the verdicts of what it drops."""

    id: str
    wanted: Wanted
    order: Order = Order.OLDEST
    rate: float = RATE
    as_new: bool = False
    by: str = ""


class Plan(msgspec.Struct, frozen=True):
    """Each letter with what is to be done with it, in the order of sending; and by which targets of which version."""

    fates: Sequence[tuple[Letter, Fate]]
    standing: Standing
    targets: Mapping[str, Target]
    version: int

    def of(self, fate: Fate) -> list[Letter]:
        """The letters of a fate."""
        return [letter for letter, each in self.fates if each is fate]


def new_redrive_id(now: int) -> str:
    """An id that tells when the redrive began. `now`: milliseconds since the epoch."""
    began = datetime.fromtimestamp(now / 1000, UTC)
    return f"{began:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def is_redrive_id(text: str) -> bool:
    """Whether `text` has the form of one."""
    return re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", text) is not None


def make_plan(history: History, redrive: Redrive) -> Plan:
    """What a redrive will do, as log and archive are now."""
    letters, standing = find_standing(history, redrive.wanted, also=_sent_as(redrive))
    configuration, states = Configuration(history.bus), TargetStates(history.bus)
    configuration.refresh()
    states.refresh()
    targets = dict(configuration.read_targets())
    suspended = {one for one in targets if states.of(one, TargetStatus.SUSPENDED) is not None}

    def fate(letter: Letter) -> Fate:
        if letter.redrive == redrive.id or standing.was_brought_back_by(
            redrive.id, _sent_as(redrive)(letter.id)
        ):
            return Fate.DONE
        if standing.is_under_way(letter.id):
            return Fate.UNDER_WAY
        if letter.target in suspended:
            return Fate.SUSPENDED
        return Fate.SENT if letter.target in targets else Fate.NO_TARGET

    fates = [(letter, fate(letter)) for letter in letters]
    newest_first = redrive.order is Order.NEWEST_PER_RESOURCE
    fates.sort(key=lambda one: (one[0].event_time, one[0].place), reverse=newest_first)
    if newest_first:
        fates = _without_older(fates, targets)
    return Plan(fates, standing, targets, configuration.version)


class Redriving:
    """A redrive at work. `counts` says what became of how many letters, also after it was interrupted."""

    def __init__(self, history: History, redrive: Redrive, plan: Plan, clock: Clock) -> None:
        self.counts: Counter[Fate] = Counter(
            fate for _, fate in plan.fates if fate not in {Fate.SENT, Fate.OLDER}
        )
        self._history = history
        self._bus: Bus = history.bus
        self._redrive = redrive
        self.plan = plan
        self._clock = clock
        self._sent_as = _sent_as(redrive)
        self._partitions = self._bus.topics().get(DELIVERIES, 1)
        self._keys: dict[tuple[str, int], bytes] = {}

    def run(
        self, advance: Callable[[int], None] = lambda _: None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Drop what is older, then send. `advance` is told how many more of the letters that are to be sent are dealt
        with. Raises BusError."""
        for letters in read_letters(self._history, self.plan.of(Fate.OLDER)):
            self._drop(letters, "a newer state of the resource is redriven")
            self.counts[Fate.OLDER] += len(letters)
        if self._redrive.as_new:
            done = [letter for letter in self.plan.of(Fate.DONE) if letter.redrive != self._redrive.id]
            for letters in read_letters(self._history, done):
                self._drop_replaced(letters)
        self._send_all(advance, pause)

    def _send_all(self, advance: Callable[[int], None], pause: Callable[[float], None]) -> None:
        to_send, rate = self.plan.of(Fate.SENT), self._redrive.rate
        size = max(1, min(BATCH, int(rate)))
        due = self._clock.monotonic()
        for batch in read_letters(self._history, to_send, size):
            pause(max(0.0, due - self._clock.monotonic()))
            sent = self._send(batch)
            due = max(due, self._clock.monotonic() - 1) + len(sent) / rate
            self.counts[Fate.SENT] += len(sent)
            self.counts[Fate.CHANGED] += len(batch) - len(sent)
            advance(len(batch))
        self.counts[Fate.MISSING] = len(to_send) - self.counts[Fate.SENT] - self.counts[Fate.CHANGED]

    def _send(self, batch: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Append what still is a letter and nothing else: one append, and one more for what it replaces."""
        self.plan.standing.follow(self._redrive.id)
        sent = [one for one in batch if self._may_go(one.letter)]
        if sent:
            self._bus.append([self._record(one.delivery) for one in sent])
        if self._redrive.as_new:
            self._drop_replaced(sent)
        return sent

    def _may_go(self, letter: Letter) -> bool:
        standing = self.plan.standing
        ended = standing.ended_as(letter.id)
        named = letter.id in self._redrive.wanted.deliveries
        return not standing.is_under_way(letter.id) and (
            ended is None or (named and ended is VerdictState.DROPPED)
        )

    def _record(self, dead: Delivery) -> NewRecord:
        """The delivery as it starts again: nothing tried, placed as its target is now."""
        lane = lane_of(self.plan.targets[dead.target], dead.resource)
        return delivery_record(
            Delivery(
                id=self._sent_as(dead.id),
                source=dead.source,
                subscription=dead.subscription,
                target=dead.target,
                resource=dead.resource,
                event=dead.event,
                event_time=dead.event_time,
                configuration=self.plan.version,
                lane=lane,
                key=self._key(dead.target, lane),
                redrive=self._redrive.id,
            )
        )

    def _key(self, target: str, lane: int) -> bytes:
        """The key of a lane, made once."""
        if (target, lane) not in self._keys:
            self._keys[target, lane] = lane_key(target, lane, self._partitions, partition_for)
        return self._keys[target, lane]

    def _drop_replaced(self, letters: Sequence[DeadLetter]) -> None:
        """What was sent under another id is no letter any more."""
        self._drop(letters, f"redriven as new by {self._redrive.id}")

    def _drop(self, letters: Sequence[DeadLetter], why: str) -> None:
        redrive = self._redrive
        drop_letters(self._bus, letters, self._clock.now(), by=redrive.by, why=why, redrive=redrive.id)


def _sent_as(redrive: Redrive) -> Callable[[str], str]:
    """The id under which a delivery is sent."""
    return (lambda dead: redriven_id(dead, redrive.id)) if redrive.as_new else str


def _without_older(
    fates: Iterable[tuple[Letter, Fate]], targets: Mapping[str, Target]
) -> list[tuple[Letter, Fate]]:
    """Newest first: what is to be sent although a newer letter of its target and resource goes out, or went, is not.

    Execution records are all sent: each is of a run of its own, and none an older state of its instance.
    """
    ahead: set[tuple[str, str]] = set()
    found: list[tuple[Letter, Fate]] = []
    for letter, fate in fates:
        resource = (letter.target, letter.resource)
        if isinstance(targets.get(letter.target), RecordTarget):
            found.append((letter, fate))
        elif fate in {Fate.SENT, Fate.UNDER_WAY, Fate.DONE}:
            found.append((letter, Fate.OLDER if fate is Fate.SENT and resource in ahead else fate))
            ahead.add(resource)
        else:
            found.append((letter, fate))
    return found

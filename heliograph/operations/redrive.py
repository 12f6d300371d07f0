"""Redrive: appends dead letters to `deliveries` again, each once, at a rate; an interrupted redrive can be resumed.

A redrive keeps no state of its own. Its id is in the headers of its deliveries and in their verdicts, by which a
resumed redrive finds the letters that were sent before (docs/decisions/0011).
"""

from __future__ import annotations

import enum
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.partition import partition_for
from heliograph.operations.dead_letters import (
    BATCH,
    DeadLetter,
    Letter,
    LetterFilter,
    append_dropped,
    find_letters,
    read_letters,
    require_named,
)
from heliograph.operations.history import History
from heliograph.operations.letter_states import LetterStates
from router.configuration import Configuration
from router.deliver.target_states import TargetStates
from schemas.clock import Clock
from schemas.delivery import Delivery, VerdictState, delivery_record, redriven_id
from schemas.delivery_settings import RecordTarget
from schemas.errors import InputError
from schemas.lanes import lane_key, lane_of
from schemas.record import NewRecord
from schemas.subscription import Target
from schemas.target_state import TargetStatus
from schemas.topics import DELIVERIES

RATE = 100.0
"""Default rate in deliveries per second: it neither floods a receiver that has just recovered, nor holds up new events
of other targets."""


class Order(enum.StrEnum):
    """The order in which letters are sent."""

    OLDEST = "oldest"  # all letters, by the time of their events
    NEWEST_PER_RESOURCE = "newest-per-resource"  # the newest letter of each resource, the newest first


class RedriveResult(enum.StrEnum):
    """The result of a redrive for one letter."""

    SENT = "sent"
    OLDER = "older"  # dropped, since a newer letter of the resource is sent
    DONE = "sent-before"  # sent by this redrive before it was interrupted
    UNDER_WAY = "under-way"  # brought back by another redrive
    CHANGED = "changed"  # delivered, dropped, or brought back by another redrive since the plan was made
    MISSING = "missing"  # its record can no longer be read
    NO_TARGET = "no-target"  # its target was deleted
    SUSPENDED = "suspended"  # its target is suspended, where it would die again at once


_REFUSED = frozenset({RedriveResult.MISSING, RedriveResult.NO_TARGET, RedriveResult.SUSPENDED})
"""The results of letters that were selected and stay dead."""


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """A request to redrive. To resume a redrive, make the same request with its id.

    `rate`: deliveries per second. `as_new`: send each letter under a new delivery id. `by`: `user@host`, kept in the
    verdicts of letters that it drops.
    """

    id: str
    selection: LetterFilter
    order: Order = Order.OLDEST
    rate: float = RATE
    as_new: bool = False
    by: str = ""


class ResultCount(NamedTuple):
    """The number of letters of one target, subscription, error and result."""

    target: str
    subscription: str
    error: str
    result: RedriveResult
    letters: int


class RedrivePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The letters that a redrive selects, in the order of sending, each with the result to expect.

    `targets` (by id) and `version`: the configuration for which the deliveries are built.
    """

    redrive: Redrive
    results: Sequence[tuple[Letter, RedriveResult]]
    states: LetterStates
    targets: Mapping[str, Target]
    version: int

    def find_letters(self, result: RedriveResult) -> list[Letter]:
        """Returns the letters with this result."""
        return [letter for letter, each in self.results if each is result]

    def count_results(self) -> list[ResultCount]:
        """Counts the letters of each target, subscription, error and result."""
        counts = Counter(
            (letter.target, letter.subscription, letter.error, str(result)) for letter, result in self.results
        )
        return [
            ResultCount(target, subscription, error, RedriveResult(result), count)
            for (target, subscription, error, result), count in sorted(counts.items())
        ]

    def estimate_seconds(self) -> int:
        """Estimates how long sending takes at the redrive's rate, in seconds."""
        return math.ceil(len(self.find_letters(RedriveResult.SENT)) / self.redrive.rate)

    def build_resumed(self) -> Redrive:
        """Builds the request that resumes this redrive: it selects the same letters, and none that died later."""
        selection = self.redrive.selection
        last = max((letter.at + 1 for letter, _ in self.results), default=0)
        until = min(selection.until, last)
        return msgspec.structs.replace(
            self.redrive, selection=msgspec.structs.replace(selection, until=until)
        )


def new_redrive_id(now: int) -> str:
    """Builds the id of a redrive that begins now: the time and a random part. `now`: milliseconds since the epoch."""
    began = datetime.fromtimestamp(now / 1000, UTC)
    return f"{began:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def parse_redrive_id(text: str) -> str:
    """Returns `text` if it has the form of a redrive id; raises InputError otherwise."""
    if re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", text) is None:
        raise InputError(
            f"redrive {text!r}: not a redrive id; expected the form 20260131-120000-0a1b2c, as printed at its start"
        )
    return text


def parse_order(text: str) -> Order:
    """Reads an order of sending. Raises InputError."""
    try:
        return Order(text)
    except ValueError:
        raise InputError(f"order {text!r}: expected {', '.join(Order)}") from None


def plan_redrive(history: History, redrive: Redrive, *, allow_missing: bool = False) -> RedrivePlan:
    """Plans a redrive from the present contents of topics and archive; appends nothing.

    Raises BusError; NotFound if the filter names a delivery id that is not a dead letter, unless `allow_missing` is
    true, as for a resumed redrive: some of its deliveries may have arrived since.
    """
    letters, states = find_letters(history, redrive.selection, sent_as=_sent_as(redrive))
    if not allow_missing:
        require_named(redrive.selection, letters)
    configuration, conditions = Configuration(history.bus), TargetStates(history.bus)
    configuration.refresh()
    conditions.refresh()
    targets = dict(configuration.read_targets())
    suspended = {one for one in targets if conditions.find(one, TargetStatus.SUSPENDED) is not None}

    def result(letter: Letter) -> RedriveResult:
        if letter.redrive == redrive.id or states.was_brought_back_by(
            redrive.id, _sent_as(redrive)(letter.id)
        ):
            return RedriveResult.DONE
        if states.is_under_way(letter.id):
            return RedriveResult.UNDER_WAY
        if letter.target in suspended:
            return RedriveResult.SUSPENDED
        return RedriveResult.SENT if letter.target in targets else RedriveResult.NO_TARGET

    results = [(letter, result(letter)) for letter in letters]
    newest_first = redrive.order is Order.NEWEST_PER_RESOURCE
    results.sort(key=lambda one: (one[0].event_time, one[0].event_offset), reverse=newest_first)
    if newest_first:
        results = _without_older(results, targets)
    return RedrivePlan(
        redrive=redrive, results=results, states=states, targets=targets, version=configuration.version
    )


class RedriveRun:
    """Executes a plan. `counts`: the number of letters by result so far, also after an interruption."""

    def __init__(self, history: History, plan: RedrivePlan, clock: Clock) -> None:
        self.counts: Counter[RedriveResult] = Counter(
            result for _, result in plan.results if result not in {RedriveResult.SENT, RedriveResult.OLDER}
        )
        self._history = history
        self._bus: Bus = history.bus
        self._redrive = plan.redrive
        self.plan = plan
        self._clock = clock
        self._sent_as = _sent_as(plan.redrive)
        self._partitions = self._bus.topics().get(DELIVERIES, 1)
        self._keys: dict[tuple[str, int], bytes] = {}

    def run(
        self, advance: Callable[[int], None] = lambda _: None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Drops older letters, then sends the others.

        `advance` is called with the number of letters of each batch that was sent. `pause` waits for a number of
        seconds. Raises BusError.
        """
        for letters in read_letters(self._history, self.plan.find_letters(RedriveResult.OLDER)):
            self._drop(letters, "a newer state of the resource is redriven")
            self.counts[RedriveResult.OLDER] += len(letters)
        if self._redrive.as_new:
            done = [
                letter
                for letter in self.plan.find_letters(RedriveResult.DONE)
                if letter.redrive != self._redrive.id
            ]
            for letters in read_letters(self._history, done):
                self._drop_replaced(letters)
        self._send_all(advance, pause)

    def count_refused(self) -> int:
        """Counts the letters that were selected and stay dead: unreadable, or with a target that is deleted or
        suspended."""
        return sum(self.counts[result] for result in _REFUSED)

    def _send_all(self, advance: Callable[[int], None], pause: Callable[[float], None]) -> None:
        to_send, rate = self.plan.find_letters(RedriveResult.SENT), self._redrive.rate
        size = max(1, min(BATCH, int(rate)))
        due = self._clock.monotonic()
        for batch in read_letters(self._history, to_send, size):
            pause(max(0.0, due - self._clock.monotonic()))
            sent = self._send(batch)
            due = max(due, self._clock.monotonic() - 1) + len(sent) / rate
            self.counts[RedriveResult.SENT] += len(sent)
            self.counts[RedriveResult.CHANGED] += len(batch) - len(sent)
            advance(len(batch))
        self.counts[RedriveResult.MISSING] = (
            len(to_send) - self.counts[RedriveResult.SENT] - self.counts[RedriveResult.CHANGED]
        )

    def _send(self, batch: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Sends the letters of a batch that are still dead, and returns them; with `as_new`, drops them as replaced."""
        self.plan.states.follow(self._redrive.id)
        sent = [one for one in batch if self._may_send(one.letter)]
        if sent:
            self._bus.append([self._record(one.delivery) for one in sent])
        if self._redrive.as_new:
            self._drop_replaced(sent)
        return sent

    def _may_send(self, letter: Letter) -> bool:
        states = self.plan.states
        ended = states.ended_as(letter.id)
        named = letter.id in self._redrive.selection.deliveries
        return not states.is_under_way(letter.id) and (
            ended is None or (named and ended is VerdictState.DROPPED)
        )

    def _record(self, dead: Delivery) -> NewRecord:
        """Builds the record of a delivery that starts again: without attempts, in a lane of its present target."""
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
        """Returns the record key of a lane; computed once per lane."""
        if (target, lane) not in self._keys:
            self._keys[target, lane] = lane_key(target, lane, self._partitions, partition_for)
        return self._keys[target, lane]

    def _drop_replaced(self, letters: Sequence[DeadLetter]) -> None:
        """Drops letters that were sent under a new id."""
        self._drop(letters, f"redriven as new by {self._redrive.id}")

    def _drop(self, letters: Sequence[DeadLetter], why: str) -> None:
        redrive = self._redrive
        append_dropped(self._bus, letters, self._clock.now(), by=redrive.by, why=why, redrive=redrive.id)


def _sent_as(redrive: Redrive) -> Callable[[str], str]:
    """Returns the function that gives the id under which a delivery is sent."""
    return (lambda dead: redriven_id(dead, redrive.id)) if redrive.as_new else str


def _without_older(
    results: Iterable[tuple[Letter, RedriveResult]], targets: Mapping[str, Target]
) -> list[tuple[Letter, RedriveResult]]:
    """Marks a letter as older if a newer letter of the same target and resource is sent or was sent.

    `results`: the newest letters first.

    Execution records are all sent: each is of its own run, and none is an older state of its instance.
    """
    ahead: set[tuple[str, str]] = set()
    found: list[tuple[Letter, RedriveResult]] = []
    for letter, result in results:
        resource = (letter.target, letter.resource)
        if isinstance(targets.get(letter.target), RecordTarget):
            found.append((letter, result))
        elif result in {RedriveResult.SENT, RedriveResult.UNDER_WAY, RedriveResult.DONE}:
            found.append(
                (
                    letter,
                    RedriveResult.OLDER if result is RedriveResult.SENT and resource in ahead else result,
                )
            )
            ahead.add(resource)
        else:
            found.append((letter, result))
    return found

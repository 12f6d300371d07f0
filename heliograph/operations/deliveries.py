"""Where every delivery stands, read from the log: for the command line, never for a role.

Verdicts that the log does not have any more are given to the functions as records, from wherever they are kept.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on, read_topic
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivery,
    Exhausted,
    Verdict,
    VerdictState,
    read_delivery,
    read_verdict,
)
from schemas.record import Record, TopicPartition
from schemas.topics import DELIVERIES, PARKED, RETRIES, VERDICTS


class DeliveryStatus(enum.StrEnum):
    """The states of a delivery: those of its verdict, and those before it has one."""

    DELIVERED = VerdictState.DELIVERED
    DROPPED = VerdictState.DROPPED
    DEAD = VerdictState.DEAD
    EXPIRED = VerdictState.EXPIRED
    MUTED = VerdictState.MUTED
    WAITING = "waiting"  # on the wheel or parked
    UNDER_WAY = "under-way"  # in the topic `deliveries`, and not committed
    UNKNOWN = "unknown"  # neither the topics nor the archive have anything of it

    @property
    def ended(self) -> bool:
        """True if the delivery has a verdict."""
        return self not in {DeliveryStatus.WAITING, DeliveryStatus.UNDER_WAY, DeliveryStatus.UNKNOWN}


STATES = tuple(state for state in DeliveryStatus if state is not DeliveryStatus.UNKNOWN)
"""The states that a listing can filter by."""

_PRECEDENCE = {state: place for place, state in enumerate(VerdictState)}

About = Callable[[Verdict | Delivery], bool]
"""Whether a delivery is asked for, by what never changes of it: event, subscription, target, resource."""


class DeliveryState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of one delivery, and what is known of it.

    `at`: when it ended, or when its last record was appended; `due`: the time of its next attempt; both in
    milliseconds since the epoch, 0 if there is none. `detail`: the last receipt or error, in one line. `lane`: None
    once it has ended. The other fields are as in `Verdict`.
    """

    id: str
    state: DeliveryStatus
    source: str = ""
    subscription: str = ""
    target: str = ""
    resource: str = ""
    at: int = 0
    due: int = 0
    attempts: Attempts = Attempts()
    detail: str = ""
    lane: int | None = None
    configuration: int = 0
    exhausted: Exhausted | None = None
    redrive: str = ""
    by: str = ""
    why: str = ""


def reduce_verdicts(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """One verdict per delivery, by its id: of several the first by precedence, delivered before all others."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        known = found.setdefault(verdict.delivery, verdict)
        if _PRECEDENCE[verdict.state] < _PRECEDENCE[known.state]:
            found[verdict.delivery] = verdict
    return found


def list_deliveries(
    bus: Bus, about: About = lambda _: True, archived: Iterable[Record] = ()
) -> Iterator[DeliveryState]:
    """Every delivery that is asked for, once: those that ended, those that wait, those under way.

    One that a redrive brought back is under way again, unless it is known as delivered. `archived`: verdicts that the
    log does not have any more. The verdicts of all that is asked for are in memory.
    """
    cursors = unfinished(bus)
    redriven: set[tuple[str, str]] = set()

    def verdicts() -> Iterator[Verdict]:
        for verdict in read_verdicts(chain(archived, read_topic(bus, VERDICTS))):
            if about(verdict):
                if verdict.redrive:
                    redriven.add((verdict.delivery, verdict.redrive))
                yield verdict

    ended = reduce_verdicts(verdicts())
    seen: set[str] = set()
    for record, delivery in _unended(bus, cursors):
        verdict = ended.get(delivery.id)
        is_over = verdict is not None and (
            verdict.state is VerdictState.DELIVERED
            or not delivery.redrive
            or (delivery.id, delivery.redrive) in redriven
        )
        if about(delivery) and not is_over and delivery.id not in seen:
            seen.add(delivery.id)
            yield _as_waiting(record, delivery)
    yield from (_as_ended(verdict) for one, verdict in ended.items() if one not in seen)


def delivery_states(
    bus: Bus, ids: Collection[str], archived: Iterable[Record] = ()
) -> Mapping[str, DeliveryState]:
    """Where each of these deliveries stands."""
    wanted = frozenset(ids)

    def about(one: Verdict | Delivery) -> bool:
        return (one.delivery if isinstance(one, Verdict) else one.id) in wanted

    found = {one.id: one for one in list_deliveries(bus, about, archived)} if wanted else {}
    return {one: found.get(one) or DeliveryState(id=one, state=DeliveryStatus.UNKNOWN) for one in ids}


def kept_attempts(attempts: Attempts) -> list[tuple[int, Attempt]]:
    """The attempts that are kept, each with its number, which counts from 1."""
    last = list(enumerate(attempts.last, attempts.count - len(attempts.last) + 1))
    return last if attempts.first is None or (last and last[0][0] == 1) else [(1, attempts.first), *last]


def unfinished(bus: Bus) -> dict[TopicPartition, int]:
    """From where on deliveries may lie that have not ended: on the wheel, parked, under way.

    The order matters: a delivery goes from one topic to another while this is read, and is in at least one of them.
    """
    found: dict[TopicPartition, int] = {}
    wheel = sorted(topic for topic in bus.topics() if topic.startswith(RETRIES))
    for group, topics in (("wheel", wheel), ("deliverer", [PARKED, DELIVERIES])):
        cursors = bus.lag(group)
        for topic in topics:
            for partition, extent in sorted(bus.extents(topic).items()):
                found[partition] = cursors[partition].cursor if partition in cursors else extent.start
    return found


def read_deliveries(records: Iterable[Record]) -> Iterator[tuple[Record, Delivery]]:
    """Records with the deliveries that they hold; what holds none is passed over, others may write to the log too."""
    for record in records:
        try:
            yield record, read_delivery(record)
        except (KeyError, ValueError):
            continue


def read_verdicts(records: Iterable[Record]) -> Iterator[Verdict]:
    """The verdicts that records hold; what holds none is passed over."""
    for record in records:
        with suppress(ValueError):
            yield read_verdict(record.value)


def _unended(bus: Bus, cursors: Mapping[TopicPartition, int]) -> Iterator[tuple[Record, Delivery]]:
    for partition, offset in cursors.items():
        end = bus.extents(partition.topic)[partition].end
        yield from read_deliveries(read_on(bus, partition, offset, end))


def _as_ended(verdict: Verdict) -> DeliveryState:
    detail = (verdict.exhausted, verdict.why or _last(verdict.attempts), _muted(verdict))
    return DeliveryState(
        id=verdict.delivery,
        state=DeliveryStatus(verdict.state),
        source=verdict.source,
        subscription=verdict.subscription,
        target=verdict.target,
        resource=verdict.resource,
        at=verdict.at,
        attempts=verdict.attempts,
        detail=": ".join(filter(None, detail)),
        configuration=verdict.configuration,
        exhausted=verdict.exhausted,
        redrive=verdict.redrive,
        by=verdict.by,
        why=verdict.why,
    )


def _as_waiting(record: Record, delivery: Delivery) -> DeliveryState:
    waits = record.topic != DELIVERIES
    return DeliveryState(
        id=delivery.id,
        state=DeliveryStatus.WAITING if waits else DeliveryStatus.UNDER_WAY,
        source=str(delivery.source),
        subscription=delivery.subscription,
        target=delivery.target,
        resource=delivery.resource,
        at=record.timestamp,
        due=delivery.wait.due if delivery.wait is not None and waits else 0,
        attempts=delivery.attempts,
        detail=_last(delivery.attempts),
        lane=delivery.lane,
        configuration=delivery.configuration,
        redrive=delivery.redrive,
    )


def _muted(verdict: Verdict) -> str:
    return f"by {verdict.opener}, which went out" if verdict.opener else ""


def _last(attempts: Attempts) -> str:
    """What came of the last attempt, in a line."""
    if not attempts.last:
        return ""
    last = attempts.last[-1]
    return last.receipt if last.reason is None else f"{last.reason.code} {last.reason.detail}".rstrip()

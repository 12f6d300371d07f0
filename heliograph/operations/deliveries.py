"""The state of deliveries, read from topics and archive: for operators and programs, not for roles."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on, read_topic
from heliograph.operations.history import History
from heliograph.operations.times import OPEN_END
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
from schemas.errors import InputError, NotFound, StoreError
from schemas.record import Position, Record, TopicPartition
from schemas.topics import DELIVERIES, PARKED, RETRIES, VERDICTS


class DeliveryStatus(enum.StrEnum):
    """The states of a delivery: a state of its verdict or, without a verdict, its place in the topics."""

    DELIVERED = VerdictState.DELIVERED
    DROPPED = VerdictState.DROPPED
    DEAD = VerdictState.DEAD
    EXPIRED = VerdictState.EXPIRED
    MUTED = VerdictState.MUTED
    WAITING = "waiting"  # on the wheel or parked
    UNDER_WAY = "under-way"  # in the topic `deliveries`, and not committed
    UNKNOWN = "unknown"  # neither the topics nor the archive have a record of it

    @property
    def ended(self) -> bool:
        """True if the delivery has a verdict."""
        return self not in {DeliveryStatus.WAITING, DeliveryStatus.UNDER_WAY, DeliveryStatus.UNKNOWN}


STATES = tuple(state for state in DeliveryStatus if state is not DeliveryStatus.UNKNOWN)
"""The states that a listing can filter by."""

_PRECEDENCE = {state: place for place, state in enumerate(VerdictState)}


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects deliveries; an empty field selects all.

    `source`: the event's position. `since` (inclusive) and `until` (exclusive): time at which the delivery ended or,
    before its end, its last record was appended; milliseconds since the epoch. `targets`, `ids`: ids of targets and of
    deliveries, of which one must match.
    """

    targets: frozenset[str] = frozenset()
    subscription: str = ""
    state: DeliveryStatus | None = None
    source: Position | None = None
    since: int = 0
    until: int = OPEN_END
    ids: frozenset[str] = frozenset()

    def selects(self, found: Verdict | Delivery) -> bool:
        """True if the delivery matches every field except the state and the time, which change."""
        delivery = found.delivery if isinstance(found, Verdict) else found.id
        return (
            (not self.ids or delivery in self.ids)
            and (not self.targets or found.target in self.targets)
            and (not self.subscription or found.subscription == self.subscription)
            and (self.source is None or str(found.source) == str(self.source))
        )

    def selects_state(self, found: DeliveryState) -> bool:
        """True if the delivery matches the state and the time."""
        return self.state in {None, found.state} and self.since <= found.at < self.until


ALL = DeliveryFilter()
"""The filter that selects every delivery."""


class DeliveryState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of one delivery, with its last attempts and, if it has ended, the fields of its verdict.

    `at`: time at which it ended or, before its end, its last record was appended; `due`: time of its next attempt; both
    in milliseconds since the epoch, 0 if there is none. `detail`: the last receipt or error, in one line. `lane`: None
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


def parse_state(text: str) -> DeliveryStatus:
    """Reads a state that a listing can filter by. Raises InputError."""
    for state in STATES:
        if text == state:
            return state
    raise InputError(f"state {text!r}: expected {', '.join(STATES)}")


def list_deliveries(history: History, selection: DeliveryFilter = ALL) -> Iterator[DeliveryState]:
    """Lists each selected delivery once: ended, waiting or under way.

    A delivery that a redrive brought back is under way again, unless it has the verdict `delivered`. The verdicts of
    all selected deliveries are held in memory. Raises BusError; `history.problem` says if the archive could not be
    read.
    """
    return _list(history, selection, selection.since)


def find_delivery(history: History, delivery: str) -> DeliveryState:
    """Finds one delivery by its id. The archive is read only if the topics do not have it.

    Raises NotFound, BusError; StoreError if only the archive could have it and cannot be read.
    """
    for place in (History(history.bus), history):
        found = read_states(place, [delivery])[delivery]
        if found.state is not DeliveryStatus.UNKNOWN:
            return found
    if history.problem:
        raise StoreError(
            f"delivery {delivery!r}: not in the topics, and the archive cannot be read: {history.problem}"
        )
    raise NotFound(
        f"no delivery {delivery!r} in topics or archive; `heliograph deliveries list` lists the ids"
    )


def read_states(history: History, ids: Collection[str], since: int = 0) -> Mapping[str, DeliveryState]:
    """Returns the state of each of these deliveries by its id; `UNKNOWN` if no record of it exists.

    `since`: time from which on the archive is searched for verdicts, milliseconds since the epoch.
    """
    selection = DeliveryFilter(ids=frozenset(ids))
    found = {one.id: one for one in _list(history, selection, since)} if ids else {}
    return {one: found.get(one) or DeliveryState(id=one, state=DeliveryStatus.UNKNOWN) for one in ids}


def reduce_verdicts(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Returns one verdict by delivery id: of several verdicts the one with the highest precedence, `delivered` before
    all."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        _keep_first(found, verdict)
    return found


def number_attempts(attempts: Attempts) -> list[tuple[int, Attempt]]:
    """Numbers the attempts that were kept; the first attempt is 1."""
    last = list(enumerate(attempts.last, attempts.count - len(attempts.last) + 1))
    return last if attempts.first is None or (last and last[0][0] == 1) else [(1, attempts.first), *last]


def find_unfinished(bus: Bus) -> dict[TopicPartition, int]:
    """Finds, by partition, the first offset that may hold a delivery without a verdict: on the wheel, parked, or under
    way.

    The order of the topics matters: a delivery that moves to another topic during this call is found in one of the two.
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
    """Reads records as deliveries. Skips other records, since other programs may write to the topics."""
    for record in records:
        try:
            yield record, read_delivery(record)
        except (KeyError, ValueError):
            continue


def read_verdicts(records: Iterable[Record]) -> Iterator[Verdict]:
    """Reads records as verdicts. Skips other records."""
    for record in records:
        with suppress(ValueError):
            yield read_verdict(record.value)


def _list(history: History, selection: DeliveryFilter, archived_since: int) -> Iterator[DeliveryState]:
    """Lists selected deliveries; verdicts in the archive that are older than `archived_since` are not read."""
    unfinished = find_unfinished(history.bus)
    ended: dict[str, Verdict] = {}
    ended_again: set[tuple[str, str]] = set()
    for verdict in read_verdicts(_verdict_records(history, archived_since)):
        if selection.selects(verdict):
            _keep_first(ended, verdict)
            if verdict.redrive:
                ended_again.add((verdict.delivery, verdict.redrive))
    listed: set[str] = set()
    for record, delivery in _read_pending(history.bus, unfinished):
        if not selection.selects(delivery) or delivery.id in listed:
            continue
        known = ended.get(delivery.id)
        is_over = known is not None and (
            known.state is VerdictState.DELIVERED
            or not delivery.redrive
            or (delivery.id, delivery.redrive) in ended_again
        )
        if not is_over:
            listed.add(delivery.id)
            state = _pending_state(record, delivery)
            if selection.selects_state(state):
                yield state
    states = (_ended_state(verdict) for one, verdict in ended.items() if one not in listed)
    yield from filter(selection.selects_state, states)


def _verdict_records(history: History, archived_since: int) -> Iterator[Record]:
    yield from (record for _, record in history.archived(VERDICTS, archived_since))
    yield from read_topic(history.bus, VERDICTS)


def _keep_first(found: dict[str, Verdict], verdict: Verdict) -> None:
    """Stores a verdict in `found`, unless a verdict of this delivery with a higher precedence is there."""
    known = found.setdefault(verdict.delivery, verdict)
    if _PRECEDENCE[verdict.state] < _PRECEDENCE[known.state]:
        found[verdict.delivery] = verdict


def _read_pending(bus: Bus, cursors: Mapping[TopicPartition, int]) -> Iterator[tuple[Record, Delivery]]:
    for partition, offset in cursors.items():
        end = bus.extents(partition.topic)[partition].end
        yield from read_deliveries(read_on(bus, partition, offset, end))


def _ended_state(verdict: Verdict) -> DeliveryState:
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


def _pending_state(record: Record, delivery: Delivery) -> DeliveryState:
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
    return f"muted by the event at {verdict.opener}" if verdict.opener else ""


def _last(attempts: Attempts) -> str:
    """Returns the receipt or the error of the last attempt, in one line."""
    if not attempts.last:
        return ""
    last = attempts.last[-1]
    return last.receipt if last.reason is None else f"{last.reason.code} {last.reason.detail}".rstrip()

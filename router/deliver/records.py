"""Where every delivery stands, read from the log: for the command line, never for a role."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec

from heliograph.bus.base import Bus, Lag
from schemas.delivery import Attempts, Delivery, Verdict, VerdictState, read_delivery, read_verdict
from schemas.record import Position, Record, TopicPartition
from schemas.topics import DEAD_LETTERS, DELIVERIES, VERDICTS, matches

WAITING = "waiting"
UNDER_WAY = "under-way"
UNKNOWN = "unknown"
STATES = (*(state.value for state in VerdictState), WAITING, UNDER_WAY)
"""Every state of a delivery that the log knows of."""

_PRECEDENCE = {state: place for place, state in enumerate(VerdictState)}


class DeliveryState(msgspec.Struct, frozen=True, gc=False):
    """Where a delivery stands. `state`: a verdict's, or `waiting`, `under-way`, `unknown` (nothing of it is left).

    `at`: when it ended, milliseconds since the epoch; `due`: when it is to be tried again; 0 where that says
    nothing. `attempts`: how many there were. `detail`: one line, the receipt or what went wrong last.
    """

    id: str
    state: str
    source: str = ""
    subscription: str = ""
    target: str = ""
    resource: str = ""
    at: int = 0
    due: int = 0
    attempts: int = 0
    detail: str = ""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A dead letter, where it lies, and the reason in its headers. `at`: milliseconds since the epoch."""

    position: Position
    at: int
    delivery: Delivery
    code: str
    message: str
    exhausted: str


def reduce_verdicts(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """One verdict per delivery, by its id: of several the first by precedence, delivered before all others."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        known = found.setdefault(verdict.delivery, verdict)
        if _PRECEDENCE[verdict.state] < _PRECEDENCE[known.state]:
            found[verdict.delivery] = verdict
    return found


def list_deliveries(bus: Bus) -> Iterator[DeliveryState]:
    """Every delivery that the log knows of, once: those that ended, those that wait, those under way."""
    ended = reduce_verdicts(_verdicts(_records(bus, VERDICTS)))
    yield from (_ended(verdict) for verdict in ended.values())
    seen = set(ended)
    for group, topic, state in (("wheel", "retries.*", WAITING), ("deliverer", DELIVERIES, UNDER_WAY)):
        for _, delivery in _deliveries(_records(bus, topic, group)):
            if delivery.id not in seen:
                seen.add(delivery.id)
                yield _unended(delivery, state)


def delivery_states(bus: Bus, ids: Collection[str]) -> Mapping[str, DeliveryState]:
    """Where each of these deliveries stands."""
    wanted = set(ids)
    found = {one.id: one for one in list_deliveries(bus) if one.id in wanted}
    return {one: found.get(one) or DeliveryState(one, UNKNOWN) for one in ids}


def list_dead(bus: Bus) -> Iterator[DeadLetter]:
    """Every dead letter, each once however often it was appended; a delivery that got through after all is none."""
    verdicts = reduce_verdicts(_verdicts(_records(bus, VERDICTS)))
    seen = {one for one, verdict in verdicts.items() if verdict.state is VerdictState.DELIVERED}
    for record, delivery in _deliveries(_records(bus, DEAD_LETTERS)):
        if delivery.id not in seen:
            seen.add(delivery.id)
            told = {name: value.decode(errors="replace") for name, value in record.headers}
            code, message = told.get("errorCode", ""), told.get("errorMessage", "")
            exhausted = told.get("exhaustedRetryCondition", "")
            yield DeadLetter(record.position, record.timestamp, delivery, code, message, exhausted)


def _records(bus: Bus, pattern: str, unfinished_by: str | None = None) -> Iterator[Record]:
    """Records of topics from their beginning, or from where a group's cursor is."""
    cursors = bus.lag(unfinished_by) if unfinished_by else dict[TopicPartition, Lag]()
    for topic in sorted(bus.topics()):
        if not matches(topic, [pattern]):
            continue
        for partition, extent in bus.extents(topic).items():
            offset = cursors[partition].cursor if partition in cursors else extent.start
            while records := bus.read(partition, offset).records:
                yield from records
                offset = records[-1].offset + 1


def _deliveries(records: Iterable[Record]) -> Iterator[tuple[Record, Delivery]]:
    for record in records:
        try:
            yield record, read_delivery(record)
        except (KeyError, ValueError):
            continue


def _verdicts(records: Iterable[Record]) -> Iterator[Verdict]:
    for record in records:
        with suppress(ValueError):  # others may write to the log as well
            yield read_verdict(record.value)


def _ended(verdict: Verdict) -> DeliveryState:
    return DeliveryState(
        verdict.delivery,
        verdict.state,
        verdict.source,
        verdict.subscription,
        verdict.target,
        verdict.resource,
        verdict.at,
        0,
        verdict.attempts.count,
        ": ".join(filter(None, (verdict.exhausted, _last(verdict.attempts), _muted(verdict)))),
    )


def _unended(delivery: Delivery, state: str) -> DeliveryState:
    return DeliveryState(
        delivery.id,
        state,
        str(delivery.source),
        delivery.subscription,
        delivery.target,
        delivery.resource,
        0,
        delivery.wait.due if delivery.wait is not None and state == WAITING else 0,
        delivery.attempts.count,
        _last(delivery.attempts),
    )


def _muted(verdict: Verdict) -> str:
    return f"by {verdict.opener}, which went out" if verdict.opener else ""


def _last(attempts: Attempts) -> str:
    """What came of the last attempt, in a line."""
    if not attempts.last:
        return ""
    last = attempts.last[-1]
    return last.receipt if last.reason is None else f"{last.reason.code} {last.reason.detail}".rstrip()

"""A run that is whole has no findings; whatever is tampered with is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.app.roles import roles
from heliograph.app.runner import Runner
from heliograph.chaos.books import Books, Wrong, findings, repeats, take
from heliograph.chaos.receiver import Misbehaving
from heliograph.chaos.scratch import Place, scratch, subscriptions
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.stream import generate
from schemas.delivery import VerdictState, encode_verdict, read_verdict
from schemas.record import Record
from schemas.subscription import Subscription
from sinks.kinds import KINDS
from tests.acceptance.product import until

VALUES = list(generate(11, 150, 1_700_000_000_000))
TARGETS = 6


class Ran(NamedTuple):
    """Everything at rest."""

    deployment: Deployment
    receiver: Misbehaving
    subscribed: list[Subscription]
    books: Books


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    with (
        scratch(Place()) as ground,
        Misbehaving() as receiver,
        Deployment(load(ground.environment)) as deployment,
    ):
        subscribed = list(subscriptions(receiver.url))
        apply(deployment.bus, subscribed, KINDS)
        Edge(deployment.bus).submit(VALUES)
        runner = Runner(deployment.bus, roles(deployment))
        runner.start()
        until(lambda: ended(deployment) == len(VALUES) * TARGETS)
        runner.wait_until_idle()
        assert runner.join()
        yield Ran(deployment, receiver, subscribed, take(deployment, receiver, subscribed, VALUES))


def ended(deployment: Deployment) -> int:
    return sum(extent.end for extent in deployment.bus.extents("verdicts").values())


def wrong(books: Books) -> set[Wrong]:
    return {finding.wrong for finding in findings(books)}


def test_a_whole_run_has_no_findings(ran: Ran) -> None:
    assert list(findings(ran.books)) == []
    assert {target: len(bodies) for target, bodies in ran.books.received.items()} == dict.fromkeys(
        ("hook", "ordered", "queue", "store", "logged"), len(VALUES)
    )
    assert repeats(ran.books) == 0


def without(topic: str) -> Callable[[Books], Books]:
    """The log lacks a record of a topic."""

    def tamper(books: Books) -> Books:
        gone = next(books.topic(topic))
        return msgspec.structs.replace(books, log=[record for record in books.log if record != gone])

    return tamper


def received(target: str, change: Callable[[dict[str, Any], str], object]) -> Callable[[Books], Books]:
    """A target took something else."""

    def tamper(books: Books) -> Books:
        bodies = dict(books.received[target])
        change(bodies, next(iter(bodies)))
        return msgspec.structs.replace(books, received={**books.received, target: bodies})

    return tamper


def verdict_says_dead(books: Books) -> Books:
    def changed(record: Record) -> Record:
        verdict = msgspec.structs.replace(read_verdict(record.value), state=VerdictState.DEAD)
        return msgspec.structs.replace(record, value=encode_verdict(verdict))

    return msgspec.structs.replace(
        books, log=[changed(record) if record.topic == "verdicts" else record for record in books.log]
    )


def archived(change: Callable[[list[Record]], object]) -> Callable[[Books], Books]:
    def tamper(books: Books) -> Books:
        records = list(books.archived)
        change(records)
        return msgspec.structs.replace(books, archived=records)

    return tamper


def one_event_more(books: Books) -> Books:
    return msgspec.structs.replace(books, accepted=[*books.accepted, b"{}"])


def one_event_less(books: Books) -> Books:
    return msgspec.structs.replace(books, accepted=books.accepted[1:])


def the_other_way_round(books: Books) -> Books:
    return msgspec.structs.replace(books, arrivals=books.arrivals[::-1])


def another(records: list[Record]) -> None:
    records[0] = msgspec.structs.replace(records[0], value=b"{}")


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (without("verdicts"), Wrong.LOST),
        (without("dead-letters"), Wrong.LOST),
        (without("events.*"), Wrong.LOST),
        (without("routing"), Wrong.ALTERED),
        (one_event_more, Wrong.LOST),
        (one_event_less, Wrong.UNKNOWN),
        (verdict_says_dead, Wrong.ENDED_OTHERWISE),
        *(
            case
            for target in ("hook", "ordered", "queue", "store", "logged")
            for case in (
                (received(target, lambda bodies, one: bodies.pop(one)), Wrong.LOST),
                (received(target, lambda bodies, one: bodies.update({one: [b"{}"]})), Wrong.ALTERED),
                (
                    received(target, lambda bodies, one: bodies.update({one: [*bodies[one], b"{}"]})),
                    Wrong.ALTERED,
                ),
                (received(target, lambda bodies, one: bodies.update(other=bodies[one])), Wrong.UNKNOWN),
            )
        ),
        (archived(lambda records: records.pop()), Wrong.LOST),
        (archived(lambda records: records.append(records[0])), Wrong.TWICE),
        (archived(another), Wrong.ALTERED),
        (the_other_way_round, Wrong.OUT_OF_ORDER),
    ],
)
def test_what_is_tampered_with_is_found(ran: Ran, tamper: Callable[[Books], Books], found: Wrong) -> None:
    assert found in wrong(tamper(ran.books))


def test_a_delivery_to_another_target_is_no_repeat(ran: Ran) -> None:
    """Though its id is one of the run."""
    bodies = ran.books.received
    mixed = {**bodies, "hook": {**bodies["hook"], **bodies["queue"]}}
    assert wrong(msgspec.structs.replace(ran.books, received=mixed)) == {Wrong.UNKNOWN}


def test_repeats_are_counted_and_nothing_wrong(ran: Ran) -> None:
    bodies = ran.books.received
    twice = {**bodies, "hook": {one: [*each, *each] for one, each in bodies["hook"].items()}}
    repeated = msgspec.structs.replace(ran.books, received=twice)
    assert (repeats(repeated), wrong(repeated)) == (len(VALUES), set())


def test_a_segment_that_is_gone_or_damaged_is_found(ran: Ran) -> None:
    deployment, receiver, subscribed, _ = ran
    keys = [info.key for info in deployment.archive.list("topics/verdicts/")]
    body = deployment.archive.get(keys[0])
    deployment.archive.delete(keys[0])
    assert wrong(take(deployment, receiver, subscribed, VALUES)) == {Wrong.LOST, Wrong.ALTERED}
    deployment.archive.put(keys[0], body[:-1])
    assert Wrong.ALTERED in wrong(take(deployment, receiver, subscribed, VALUES))
    deployment.archive.put(keys[0], body)
    assert wrong(take(deployment, receiver, subscribed, VALUES)) == set()

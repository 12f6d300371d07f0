"""The reconciliation of a run: a whole run has no findings, and every kind of tampering is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.app.roles import roles
from heliograph.app.runner import Runner
from heliograph.chaos.receiver import FaultyReceiver
from heliograph.chaos.scratch import ENDINGS, Services, read_subscriptions, scratch_deployment
from heliograph.demo.reconcile import Problem, Run, count_repeats, find_problems, read_run
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
    """A deployment at rest after 150 events, and its run as read."""

    deployment: Deployment
    receiver: FaultyReceiver
    subscribed: list[Subscription]
    run: Run


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    with (
        scratch_deployment(Services()) as scratch,
        FaultyReceiver() as receiver,
        Deployment(load(scratch.environment)) as deployment,
    ):
        subscribed = list(read_subscriptions(receiver.url))
        apply(deployment.bus, subscribed, KINDS)
        Edge(deployment.bus).submit(VALUES)
        runner = Runner(deployment.bus, roles(deployment))
        runner.start()
        until(lambda: ended(deployment) == len(VALUES) * TARGETS)
        runner.wait_until_idle()
        assert runner.join()
        yield Ran(deployment, receiver, subscribed, read_again(deployment, receiver, subscribed))


def read_again(deployment: Deployment, receiver: FaultyReceiver, subscribed: list[Subscription]) -> Run:
    return read_run(deployment, receiver, subscriptions=subscribed, endings=ENDINGS, accepted=VALUES)


def ended(deployment: Deployment) -> int:
    return sum(extent.end for extent in deployment.bus.extents("verdicts").values())


def wrong(run: Run) -> set[Problem]:
    return {finding.problem for finding in find_problems(run)}


def test_a_whole_run_has_no_findings(ran: Ran) -> None:
    assert list(find_problems(ran.run)) == []
    assert {target: len(bodies) for target, bodies in ran.run.received.items()} == {
        **dict.fromkeys(("hook", "ordered", "queue", "store", "logged"), len(VALUES)),
        "refused": 0,
    }
    assert count_repeats(ran.run) == 0


def without_record_of(topic: str) -> Callable[[Run], Run]:
    """Removes a record of a topic."""

    def tamper(run: Run) -> Run:
        gone = next(run.select_records(topic))
        return msgspec.structs.replace(run, records=[record for record in run.records if record != gone])

    return tamper


def received(target: str, change: Callable[[dict[str, Any], str], object]) -> Callable[[Run], Run]:
    """Changes the bodies that a target took."""

    def tamper(run: Run) -> Run:
        bodies = dict(run.received[target])
        change(bodies, next(iter(bodies)))
        return msgspec.structs.replace(run, received={**run.received, target: bodies})

    return tamper


def verdict_says_dead(run: Run) -> Run:
    def changed(record: Record) -> Record:
        verdict = msgspec.structs.replace(read_verdict(record.value), state=VerdictState.DEAD)
        return msgspec.structs.replace(record, value=encode_verdict(verdict))

    return msgspec.structs.replace(
        run, records=[changed(record) if record.topic == "verdicts" else record for record in run.records]
    )


def archived(change: Callable[[list[Record]], object]) -> Callable[[Run], Run]:
    def tamper(run: Run) -> Run:
        records = list(run.archived)
        change(records)
        return msgspec.structs.replace(run, archived=records)

    return tamper


def one_event_more(run: Run) -> Run:
    return msgspec.structs.replace(run, accepted=[*run.accepted, b"{}"])


def one_event_less(run: Run) -> Run:
    return msgspec.structs.replace(run, accepted=run.accepted[1:])


def the_other_way_round(run: Run) -> Run:
    return msgspec.structs.replace(run, arrivals=run.arrivals[::-1])


def another(records: list[Record]) -> None:
    records[0] = msgspec.structs.replace(records[0], value=b"{}")


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (without_record_of("verdicts"), Problem.LOST),
        (without_record_of("dead-letters"), Problem.LOST),
        (without_record_of("events.*"), Problem.LOST),
        (without_record_of("routing"), Problem.ALTERED),
        (one_event_more, Problem.LOST),
        (one_event_less, Problem.UNKNOWN),
        (verdict_says_dead, Problem.ENDED_OTHERWISE),
        *(
            case
            for target in ("hook", "ordered", "queue", "store", "logged")
            for case in (
                (received(target, lambda bodies, one: bodies.pop(one)), Problem.LOST),
                (received(target, lambda bodies, one: bodies.update({one: [b"{}"]})), Problem.ALTERED),
                (
                    received(target, lambda bodies, one: bodies.update({one: [*bodies[one], b"{}"]})),
                    Problem.ALTERED,
                ),
                (received(target, lambda bodies, one: bodies.update(other=bodies[one])), Problem.UNKNOWN),
            )
        ),
        (archived(lambda records: records.pop()), Problem.LOST),
        (archived(lambda records: records.append(records[0])), Problem.TWICE),
        (archived(another), Problem.ALTERED),
        (the_other_way_round, Problem.OUT_OF_ORDER),
    ],
)
def test_every_kind_of_tampering_is_found(ran: Ran, tamper: Callable[[Run], Run], found: Problem) -> None:
    assert found in wrong(tamper(ran.run))


def test_an_id_of_the_run_is_unknown_at_another_target(ran: Ran) -> None:
    bodies = ran.run.received
    mixed = {**bodies, "hook": {**bodies["hook"], **bodies["queue"]}}
    assert wrong(msgspec.structs.replace(ran.run, received=mixed)) == {Problem.UNKNOWN}


def test_repeats_are_counted_and_are_no_findings(ran: Ran) -> None:
    bodies = ran.run.received
    twice = {**bodies, "hook": {one: [*each, *each] for one, each in bodies["hook"].items()}}
    repeated = msgspec.structs.replace(ran.run, received=twice)
    assert (count_repeats(repeated), wrong(repeated)) == (len(VALUES), set())


def test_a_delivery_that_should_still_wait_has_no_verdict(ran: Ran) -> None:
    waiting = msgspec.structs.replace(ran.run, endings={**ran.run.endings, "refused": None})
    assert wrong(waiting) == {Problem.ENDED_OTHERWISE}
    log = [
        record
        for record in ran.run.records
        if record.topic != "verdicts" or read_verdict(record.value).target != "refused"
    ]
    left = find_problems(msgspec.structs.replace(waiting, records=log, archived=log))
    assert left == []


def test_only_matching_events_are_expected_at_a_target(ran: Ran) -> None:
    hook, *others = ran.run.subscriptions
    critical = hook.model_copy(update={"levels": ("CRITICAL",)})
    found = find_problems(msgspec.structs.replace(ran.run, subscriptions=[critical, *others]))
    assert {finding.problem for finding in found} == {Problem.UNKNOWN}
    assert {finding.detail.split()[0] for finding in found} == {"verdict", "hook"}


def test_a_missing_or_damaged_segment_is_found(ran: Ran) -> None:
    deployment, receiver, subscribed, _ = ran
    keys = [info.key for info in deployment.archive.list("topics/verdicts/")]
    body = deployment.archive.get(keys[0])
    deployment.archive.delete(keys[0])
    assert wrong(read_again(deployment, receiver, subscribed)) == {Problem.LOST, Problem.ALTERED}
    deployment.archive.put(keys[0], body[:-1])
    assert Problem.ALTERED in wrong(read_again(deployment, receiver, subscribed))
    deployment.archive.put(keys[0], body)
    assert wrong(read_again(deployment, receiver, subscribed)) == set()

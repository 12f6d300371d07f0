"""Redrive: what is sent, in which order and at which rate, and how an interrupted redrive is resumed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import msgspec
import pytest

from heliograph.operations.dead_letters import LetterFilter, append_dropped, read_letters
from heliograph.operations.delivery_settings import put
from heliograph.operations.redrive import (
    Order,
    Redrive,
    RedriveResult,
    RedriveRun,
    new_redrive_id,
    parse_redrive_id,
)
from router.deliver.settle import waiting_record
from schemas.delivery import (
    Attempts,
    Delivery,
    Exhausted,
    VerdictState,
    Wait,
    delivery_record,
    redriven_id,
)
from schemas.delivery_settings import BucketDelivery, DeliverySettings
from schemas.errors import InputError
from schemas.record import NewRecord
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record
from schemas.topics import DEAD_LETTERS, PARKED, VERDICTS
from tests.archiver.stores import Crash
from tests.heliograph.operations.redriving import DeploymentParts, letter
from tests.router.deliver.engine import apply, records, verdicts

FIRST = Redrive(id="20260101-000000-000001", selection=LetterFilter(), rate=1000)
SECOND = Redrive(id="20260101-000000-000002", selection=LetterFilter(), rate=1000)
NEWEST = Redrive(
    id="20260101-000000-000003", selection=LetterFilter(), order=Order.NEWEST_PER_RESOURCE, rate=1000
)
AS_NEW = Redrive(id="20260101-000000-000004", selection=LetterFilter(), rate=1000, as_new=True, by="jo@host")


def ids(*deliveries: Delivery) -> list[str]:
    return [one.id for one in deliveries]


def test_a_letter_is_sent_under_its_id_without_attempts_in_a_lane_of_its_present_target() -> None:
    parts = DeploymentParts()
    one = letter(1)
    parts.end_as_dead(one)
    version = apply(parts.bus, "all", {"id": "ops", "kind": "plain", "lanes": 7, "concurrency": 7})
    assert parts.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1})
    (sent,) = parts.appended()
    assert (sent.id, sent.source, sent.event, sent.resource) == (one.id, one.source, one.event, one.resource)
    assert (sent.attempts, sent.wait, sent.redrive) == (Attempts(), None, FIRST.id)
    assert (sent.configuration, sent.lane) == (version, 5)
    assert sent.key.startswith(b"ops#5.")


def test_letters_are_sent_in_the_order_of_their_events() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(3), letter(1), letter(2))
    assert [one.resource for one, _ in parts.plan(FIRST).results] == [letter(n).resource for n in (1, 2, 3)]


def redriven(one: Delivery) -> Delivery:
    """Returns the delivery as another redrive appended it."""
    return msgspec.structs.replace(one, redrive=SECOND.id)


def test_delivered_dropped_and_under_way_letters_are_not_sent() -> None:
    parts = DeploymentParts()
    through, dropped, deliveries, wheel, parked, free = (letter(number) for number in range(1, 7))
    parts.append_verdicts(VerdictState.DELIVERED, through)
    parts.end_as_dead(through, dropped, deliveries, wheel, parked, free)
    parts.append_verdicts(VerdictState.DROPPED, dropped)
    wait = Wait(parts.clock.now() + 900_000, 900.0)
    parts.bus.append(
        [
            delivery_record(redriven(deliveries)),
            waiting_record(msgspec.structs.replace(redriven(wheel), wait=wait), parts.clock.now()),
            delivery_record(redriven(parked), PARKED),
        ]
    )
    results = parts.planned(FIRST)
    assert results == {RedriveResult.SENT: [free.id], RedriveResult.UNDER_WAY: ids(deliveries, wheel, parked)}
    assert parts.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1, RedriveResult.UNDER_WAY: 3})
    assert [one.id for one in parts.listed()] == ids(deliveries, wheel, parked, free)


def test_a_dead_delivery_beyond_the_cursor_is_sent() -> None:
    """The cursor has not passed its record, since a delivery before it has not ended."""
    parts = DeploymentParts()
    stuck, over = letter(1), letter(2)
    parts.bus.append([delivery_record(one) for one in (stuck, over)])
    parts.take()
    parts.end_as_dead(over)
    assert parts.planned(FIRST) == {RedriveResult.SENT: [over.id]}
    parts.redrive(FIRST)
    parts.end_as_dead(msgspec.structs.replace(over, redrive=FIRST.id))
    assert parts.planned(SECOND) == {RedriveResult.SENT: [over.id]}
    assert parts.planned(FIRST) == {RedriveResult.DONE: [over.id]}


def test_a_dropped_letter_is_sent_if_the_filter_names_its_id() -> None:
    parts = DeploymentParts()
    dropped = letter(1)
    parts.end_as_dead(dropped)
    parts.append_verdicts(VerdictState.DROPPED, dropped)
    named = Redrive(id=FIRST.id, selection=LetterFilter(deliveries=frozenset({dropped.id})), rate=1000)
    assert parts.redrive(named).counts == Counter({RedriveResult.SENT: 1})
    assert parts.redrive(named).counts == Counter({RedriveResult.DONE: 1})


def test_letters_of_deleted_and_suspended_targets_stay_dead() -> None:
    parts = DeploymentParts()
    apply(parts.bus, "late", {"id": "late", "kind": "plain", "expires": 1060})
    apply(parts.bus, "off", {"id": "off", "kind": "plain"})
    parts.bus.append([condition_record(Condition(target="off", status=TargetStatus.SUSPENDED, since=1))])
    gone, late, off, fits = letter(1, "gone"), letter(2, "late"), letter(3, "off"), letter(4)
    parts.end_as_dead(gone, late, off, fits)
    parts.clock.advance(61)
    counts = parts.redrive(FIRST).counts
    assert counts == Counter({RedriveResult.NO_TARGET: 1, RedriveResult.SUSPENDED: 1, RedriveResult.SENT: 2})
    parts.end(lambda _: True)
    assert [one.id for one in parts.listed()] == ids(gone, off)
    parts.bus.append([lifted_record("off", TargetStatus.SUSPENDED)])
    assert parts.planned(FIRST)[RedriveResult.SENT] == [off.id]
    assert parts.planned(FIRST)[RedriveResult.NO_TARGET] == ids(gone)


def test_newest_per_resource_sends_the_newest_letter_and_drops_the_older() -> None:
    parts = DeploymentParts()
    apply(parts.bus, "other", {"id": "other", "kind": "plain"})
    a1, a2, b3, a4 = (letter(n, resource=r) for n, r in ((1, "a"), (2, "a"), (3, "b"), (4, "a")))
    other = letter(1, "other", resource="a", subscription="other")
    parts.end_as_dead(a4, a1, other, b3, a2)
    work = parts.redrive(NEWEST)
    assert work.counts == Counter({RedriveResult.SENT: 3, RedriveResult.OLDER: 2})
    assert [one.id for one, result in work.plan.results if result is RedriveResult.SENT] == ids(a4, b3, other)
    assert {one.id for one in parts.appended()} == {a4.id, b3.id, other.id}
    older = [one for one in verdicts(parts.bus) if one.state is VerdictState.DROPPED]
    assert {one.delivery for one in older} == {a1.id, a2.id}
    assert {(one.redrive, one.why) for one in older} == {
        (NEWEST.id, "a newer state of the resource is redriven")
    }
    parts.end(lambda _: False)
    assert {one.id for one in parts.listed()} == {a4.id, b3.id, other.id}


def test_the_higher_offset_is_newer_if_two_events_have_the_same_time() -> None:
    parts = DeploymentParts()
    one, two = (msgspec.structs.replace(letter(number, resource="a"), event_time=7) for number in (9, 10))
    parts.end_as_dead(two, one)
    assert parts.planned(NEWEST) == {RedriveResult.SENT: [two.id], RedriveResult.OLDER: [one.id]}


def test_an_older_letter_is_dropped_if_a_newer_one_is_under_way() -> None:
    parts = DeploymentParts()
    older, newer = letter(1, resource="a"), letter(2, resource="a")
    parts.end_as_dead(older, newer)
    parts.redrive(Redrive(id=FIRST.id, selection=LetterFilter(deliveries=frozenset({newer.id})), rate=1000))
    assert parts.redrive(NEWEST).counts == Counter({RedriveResult.UNDER_WAY: 1, RedriveResult.OLDER: 1})
    assert len(parts.appended()) == 1


def test_as_new_derives_each_delivery_id_from_the_redrive_id() -> None:
    parts = DeploymentParts()
    one = letter(1)
    parts.end_as_dead(one)
    parts.redrive(AS_NEW)
    (sent,) = parts.appended()
    assert sent.id == redriven_id(one.id, AS_NEW.id) != redriven_id(one.id, FIRST.id)
    assert sent.source == one.source
    (dropped,) = (found for found in verdicts(parts.bus) if found.state is VerdictState.DROPPED)
    assert (dropped.delivery, dropped.by) == (one.id, "jo@host")
    assert AS_NEW.id in dropped.why
    assert parts.listed() == []
    parts.end(lambda _: False)
    assert [found.id for found in parts.listed()] == [sent.id]
    assert parts.redrive(AS_NEW).counts == Counter({RedriveResult.DONE: 1})
    assert [found.id for found in parts.listed()] == [sent.id], (
        "resuming does not drop a delivery that died again"
    )


def test_newest_per_resource_sends_every_execution_record() -> None:
    parts = DeploymentParts()
    put(parts.bus, DeliverySettings(region="r", bucket=BucketDelivery(url="memory://")))
    letters = [letter(number, "bucket@r", "i-1", "executions@r") for number in (1, 2)]
    parts.end_as_dead(*letters)
    assert parts.redrive(NEWEST).counts == Counter({RedriveResult.SENT: 2})
    assert {one.id for one in parts.appended()} == set(ids(*letters))


def test_a_letter_is_listed_in_its_newest_form_until_it_is_delivered() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1), letter(2))
    parts.redrive(FIRST)
    parts.end(lambda one: one.id == letter(1).id)
    (listed,) = parts.listed()
    assert (listed.id, listed.redrive) == (letter(2).id, FIRST.id)
    (whole,) = next(read_letters(parts.history(), [listed]))
    assert whole.delivery.attempts == Attempts()
    redrives = {one.delivery: one.redrive for one in verdicts(parts.bus)[-2:]}
    assert set(redrives.values()) == {FIRST.id}


def test_pauses_between_batches_keep_the_rate() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(25)))
    parts.redrive(Redrive(id=FIRST.id, selection=LetterFilter(), rate=10))
    assert parts.pauses == pytest.approx([0.0, 1.0, 1.0])
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(3)))
    parts.redrive(Redrive(id=FIRST.id, selection=LetterFilter(), rate=0.5))
    assert parts.pauses == pytest.approx([0.0, 2.0, 2.0])


def test_letters_that_changed_since_the_plan_are_not_sent() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(4)))
    plan = parts.plan(FIRST)
    parts.append_verdicts(VerdictState.DROPPED, letter(1))
    parts.redrive(
        Redrive(id=SECOND.id, selection=LetterFilter(deliveries=frozenset({letter(2).id})), rate=1000)
    )
    work = RedriveRun(parts.history(), plan, parts.clock)
    work.run(pause=lambda _: None)
    assert work.counts == Counter({RedriveResult.SENT: 2, RedriveResult.CHANGED: 2, RedriveResult.MISSING: 0})
    assert len(parts.appended()) == 3


def test_a_letter_whose_record_was_removed_is_counted_as_missing() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    plan = parts.plan(FIRST)
    for partition, extent in parts.bus.extents(DEAD_LETTERS).items():
        parts.bus.truncate(partition, extent.end)
    work = RedriveRun(parts.history(), plan, parts.clock)
    work.run(pause=lambda _: None)
    assert work.counts == Counter({RedriveResult.MISSING: 1})


@pytest.mark.parametrize("redrive", [FIRST, NEWEST, AS_NEW], ids=lambda one: one.order + str(one.as_new))
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("survived", range(6))
@pytest.mark.parametrize("ended_between", [None, True, False])
def test_a_redrive_that_crashed_is_resumed(
    redrive: Redrive, before: bool, survived: int, ended_between: bool | None
) -> None:
    """Crashes at each append in turn: each letter is sent once, and no older letter of a resource after its newest."""
    redrive = Redrive(
        id=redrive.id, selection=LetterFilter(), order=redrive.order, rate=2, as_new=redrive.as_new
    )
    parts = DeploymentParts()
    dying = [letter(number, resource=f"r-{number % 4}") for number in range(6)]
    parts.end_as_dead(*dying)
    parts.bus.left, parts.bus.before = survived, before
    with suppress(Crash):
        parts.redrive(redrive)
    parts.bus.left = None
    if ended_between is not None:
        parts.end(lambda _: ended_between)
    parts.redrive(redrive)
    wanted = dying[2:] if redrive.order is Order.NEWEST_PER_RESOURCE else dying
    sent_as = [redriven_id(one.id, redrive.id) if redrive.as_new else one.id for one in wanted]
    assert sorted(one.id for one in parts.appended()) == sorted(sent_as)
    parts.end(lambda _: True)
    died_between = {one.id for one in parts.listed()}
    assert died_between <= set(sent_as)
    assert not died_between or ended_between is False


def test_a_dropped_verdict_has_operator_and_reason() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1), letter(2))
    (batch,) = read_letters(parts.history(), parts.listed(LetterFilter(deliveries=frozenset({letter(1).id}))))
    append_dropped(parts.bus, batch, parts.clock.now(), by="jo@host", why="old news")
    (dropped,) = (one for one in verdicts(parts.bus) if one.state is VerdictState.DROPPED)
    assert (dropped.by, dropped.why, dropped.source) == ("jo@host", "old news", str(letter(1).source))
    assert dropped.attempts == letter(1).attempts
    assert [one.id for one in parts.listed()] == [letter(2).id]
    assert len(parts.listed(dropped=True)) == 2


def test_records_that_are_no_letters_or_verdicts_are_skipped() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    deep = b'{"more":' + b"[" * 100_000
    parts.bus.append(
        [
            NewRecord(topic, value)
            for topic in (DEAD_LETTERS, VERDICTS)
            for value in (b"", b"junk", deep, b"\xff", b'{"delivery": 1}')
        ]
    )
    assert parts.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1})


def test_a_redrive_id_has_the_time_of_its_start() -> None:
    made = new_redrive_id(1_700_000_000_000)
    assert made.startswith("20231114-221320-")
    assert parse_redrive_id(made) == made
    assert made != new_redrive_id(1_700_000_000_000)
    for text in (made[:-1], f"{made}\n", ""):
        with pytest.raises(InputError, match="not a redrive id"):
            parse_redrive_id(text)


def test_only_selected_letters_are_sent() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    parts.end_as_dead(letter(2), exhausted=Exhausted.AGE)
    wanted = LetterFilter(exhausted=Exhausted.AGE)
    assert parts.redrive(Redrive(id=FIRST.id, selection=wanted, rate=1000)).counts == Counter(
        {RedriveResult.SENT: 1}
    )
    assert [one.id for one in parts.appended()] == [letter(2).id]
    assert len(records(parts.bus, VERDICTS)) == 2

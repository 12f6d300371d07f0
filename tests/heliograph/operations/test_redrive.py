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
from tests.heliograph.operations.redriving import Rig, letter
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
    rig = Rig()
    one = letter(1)
    rig.die(one)
    version = apply(rig.bus, "all", {"id": "ops", "kind": "plain", "lanes": 7, "concurrency": 7})
    assert rig.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1})
    (sent,) = rig.appended()
    assert (sent.id, sent.source, sent.event, sent.resource) == (one.id, one.source, one.event, one.resource)
    assert (sent.attempts, sent.wait, sent.redrive) == (Attempts(), None, FIRST.id)
    assert (sent.configuration, sent.lane) == (version, 5)
    assert sent.key.startswith(b"ops#5.")


def test_letters_are_sent_in_the_order_of_their_events() -> None:
    rig = Rig()
    rig.die(letter(3), letter(1), letter(2))
    assert [one.resource for one, _ in rig.plan(FIRST).results] == [letter(n).resource for n in (1, 2, 3)]


def brought_back(one: Delivery) -> Delivery:
    """The delivery as another redrive has appended it."""
    return msgspec.structs.replace(one, redrive=SECOND.id)


def test_delivered_dropped_and_under_way_letters_are_not_sent() -> None:
    rig = Rig()
    through, dropped, deliveries, wheel, parked, free = (letter(number) for number in range(1, 7))
    rig.settle(VerdictState.DELIVERED, through)
    rig.die(through, dropped, deliveries, wheel, parked, free)
    rig.settle(VerdictState.DROPPED, dropped)
    wait = Wait(rig.clock.now() + 900_000, 900.0)
    rig.bus.append(
        [
            delivery_record(brought_back(deliveries)),
            waiting_record(msgspec.structs.replace(brought_back(wheel), wait=wait), rig.clock.now()),
            delivery_record(brought_back(parked), PARKED),
        ]
    )
    results = rig.planned(FIRST)
    assert results == {RedriveResult.SENT: [free.id], RedriveResult.UNDER_WAY: ids(deliveries, wheel, parked)}
    assert rig.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1, RedriveResult.UNDER_WAY: 3})
    assert [one.id for one in rig.listed()] == ids(deliveries, wheel, parked, free)


def test_a_dead_delivery_beyond_the_cursor_is_sent() -> None:
    """The cursor has not passed its record, since a delivery before it has not ended."""
    rig = Rig()
    stuck, over = letter(1), letter(2)
    rig.bus.append([delivery_record(one) for one in (stuck, over)])
    rig.take()
    rig.die(over)
    assert rig.planned(FIRST) == {RedriveResult.SENT: [over.id]}
    rig.redrive(FIRST)
    rig.die(msgspec.structs.replace(over, redrive=FIRST.id))
    assert rig.planned(SECOND) == {RedriveResult.SENT: [over.id]}
    assert rig.planned(FIRST) == {RedriveResult.DONE: [over.id]}


def test_a_dropped_letter_is_sent_if_the_filter_names_its_id() -> None:
    rig = Rig()
    dropped = letter(1)
    rig.die(dropped)
    rig.settle(VerdictState.DROPPED, dropped)
    named = Redrive(id=FIRST.id, selection=LetterFilter(deliveries=frozenset({dropped.id})), rate=1000)
    assert rig.redrive(named).counts == Counter({RedriveResult.SENT: 1})
    assert rig.redrive(named).counts == Counter({RedriveResult.DONE: 1})


def test_letters_of_deleted_and_suspended_targets_stay_dead() -> None:
    rig = Rig()
    apply(rig.bus, "late", {"id": "late", "kind": "plain", "expires": 1060})
    apply(rig.bus, "off", {"id": "off", "kind": "plain"})
    rig.bus.append([condition_record(Condition(target="off", status=TargetStatus.SUSPENDED, since=1))])
    gone, late, off, fits = letter(1, "gone"), letter(2, "late"), letter(3, "off"), letter(4)
    rig.die(gone, late, off, fits)
    rig.clock.advance(61)
    counts = rig.redrive(FIRST).counts
    assert counts == Counter({RedriveResult.NO_TARGET: 1, RedriveResult.SUSPENDED: 1, RedriveResult.SENT: 2})
    rig.end(lambda _: True)
    assert [one.id for one in rig.listed()] == ids(gone, off)
    rig.bus.append([lifted_record("off", TargetStatus.SUSPENDED)])
    assert rig.planned(FIRST)[RedriveResult.SENT] == [off.id]
    assert rig.planned(FIRST)[RedriveResult.NO_TARGET] == ids(gone)


def test_newest_per_resource_sends_the_newest_letter_and_drops_the_older() -> None:
    rig = Rig()
    apply(rig.bus, "other", {"id": "other", "kind": "plain"})
    a1, a2, b3, a4 = (letter(n, resource=r) for n, r in ((1, "a"), (2, "a"), (3, "b"), (4, "a")))
    other = letter(1, "other", resource="a", subscription="other")
    rig.die(a4, a1, other, b3, a2)
    work = rig.redrive(NEWEST)
    assert work.counts == Counter({RedriveResult.SENT: 3, RedriveResult.OLDER: 2})
    assert [one.id for one, result in work.plan.results if result is RedriveResult.SENT] == ids(a4, b3, other)
    assert {one.id for one in rig.appended()} == {a4.id, b3.id, other.id}
    older = [one for one in verdicts(rig.bus) if one.state is VerdictState.DROPPED]
    assert {one.delivery for one in older} == {a1.id, a2.id}
    assert {(one.redrive, one.why) for one in older} == {
        (NEWEST.id, "a newer state of the resource is redriven")
    }
    rig.end(lambda _: False)
    assert {one.id for one in rig.listed()} == {a4.id, b3.id, other.id}


def test_of_two_events_at_one_time_the_one_at_the_higher_offset_is_newer() -> None:
    rig = Rig()
    one, two = (msgspec.structs.replace(letter(number, resource="a"), event_time=7) for number in (9, 10))
    rig.die(two, one)
    assert rig.planned(NEWEST) == {RedriveResult.SENT: [two.id], RedriveResult.OLDER: [one.id]}


def test_an_older_letter_is_dropped_if_a_newer_one_is_under_way() -> None:
    rig = Rig()
    older, newer = letter(1, resource="a"), letter(2, resource="a")
    rig.die(older, newer)
    rig.redrive(Redrive(id=FIRST.id, selection=LetterFilter(deliveries=frozenset({newer.id})), rate=1000))
    assert rig.redrive(NEWEST).counts == Counter({RedriveResult.UNDER_WAY: 1, RedriveResult.OLDER: 1})
    assert len(rig.appended()) == 1


def test_as_new_derives_each_delivery_id_from_the_redrive_id() -> None:
    rig = Rig()
    one = letter(1)
    rig.die(one)
    rig.redrive(AS_NEW)
    (sent,) = rig.appended()
    assert sent.id == redriven_id(one.id, AS_NEW.id) != redriven_id(one.id, FIRST.id)
    assert sent.source == one.source
    (dropped,) = (found for found in verdicts(rig.bus) if found.state is VerdictState.DROPPED)
    assert (dropped.delivery, dropped.by) == (one.id, "jo@host")
    assert AS_NEW.id in dropped.why
    assert rig.listed() == []
    rig.end(lambda _: False)
    assert [found.id for found in rig.listed()] == [sent.id]
    assert rig.redrive(AS_NEW).counts == Counter({RedriveResult.DONE: 1})
    assert [found.id for found in rig.listed()] == [sent.id], (
        "resuming does not drop a delivery that died again"
    )


def test_newest_per_resource_sends_every_execution_record() -> None:
    rig = Rig()
    put(rig.bus, DeliverySettings(region="r", bucket=BucketDelivery(url="memory://")))
    letters = [letter(number, "bucket@r", "i-1", "executions@r") for number in (1, 2)]
    rig.die(*letters)
    assert rig.redrive(NEWEST).counts == Counter({RedriveResult.SENT: 2})
    assert {one.id for one in rig.appended()} == set(ids(*letters))


def test_a_letter_is_listed_in_its_newest_form_until_it_is_delivered() -> None:
    rig = Rig()
    rig.die(letter(1), letter(2))
    rig.redrive(FIRST)
    rig.end(lambda one: one.id == letter(1).id)
    (listed,) = rig.listed()
    assert (listed.id, listed.redrive) == (letter(2).id, FIRST.id)
    (whole,) = next(read_letters(rig.history(), [listed]))
    assert whole.delivery.attempts == Attempts()
    redrives = {one.delivery: one.redrive for one in verdicts(rig.bus)[-2:]}
    assert set(redrives.values()) == {FIRST.id}


def test_pauses_between_batches_keep_the_rate() -> None:
    rig = Rig()
    rig.die(*map(letter, range(25)))
    rig.redrive(Redrive(id=FIRST.id, selection=LetterFilter(), rate=10))
    assert rig.pauses == pytest.approx([0.0, 1.0, 1.0])
    rig = Rig()
    rig.die(*map(letter, range(3)))
    rig.redrive(Redrive(id=FIRST.id, selection=LetterFilter(), rate=0.5))
    assert rig.pauses == pytest.approx([0.0, 2.0, 2.0])


def test_letters_that_changed_since_the_plan_are_not_sent() -> None:
    rig = Rig()
    rig.die(*map(letter, range(4)))
    plan = rig.plan(FIRST)
    rig.settle(VerdictState.DROPPED, letter(1))
    rig.redrive(
        Redrive(id=SECOND.id, selection=LetterFilter(deliveries=frozenset({letter(2).id})), rate=1000)
    )
    work = RedriveRun(rig.history(), plan, rig.clock)
    work.run(pause=lambda _: None)
    assert work.counts == Counter({RedriveResult.SENT: 2, RedriveResult.CHANGED: 2, RedriveResult.MISSING: 0})
    assert len(rig.appended()) == 3


def test_a_letter_whose_record_was_removed_is_counted_as_missing() -> None:
    rig = Rig()
    rig.die(letter(1))
    plan = rig.plan(FIRST)
    for partition, extent in rig.bus.extents(DEAD_LETTERS).items():
        rig.bus.truncate(partition, extent.end)
    work = RedriveRun(rig.history(), plan, rig.clock)
    work.run(pause=lambda _: None)
    assert work.counts == Counter({RedriveResult.MISSING: 1})


@pytest.mark.parametrize("redrive", [FIRST, NEWEST, AS_NEW], ids=lambda one: one.order + str(one.as_new))
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("survived", range(6))
@pytest.mark.parametrize("ended_between", [None, True, False])
def test_a_redrive_that_crashed_is_resumed(
    redrive: Redrive, before: bool, survived: int, ended_between: bool | None
) -> None:
    """Wherever it crashes, each letter is sent once, and no older letter of a resource after its newest."""
    redrive = Redrive(
        id=redrive.id, selection=LetterFilter(), order=redrive.order, rate=2, as_new=redrive.as_new
    )
    rig = Rig()
    dying = [letter(number, resource=f"r-{number % 4}") for number in range(6)]
    rig.die(*dying)
    rig.bus.left, rig.bus.before = survived, before
    with suppress(Crash):
        rig.redrive(redrive)
    rig.bus.left = None
    if ended_between is not None:
        rig.end(lambda _: ended_between)
    rig.redrive(redrive)
    wanted = dying[2:] if redrive.order is Order.NEWEST_PER_RESOURCE else dying
    sent_as = [redriven_id(one.id, redrive.id) if redrive.as_new else one.id for one in wanted]
    assert sorted(one.id for one in rig.appended()) == sorted(sent_as)
    rig.end(lambda _: True)
    died_between = {one.id for one in rig.listed()}
    assert died_between <= set(sent_as)
    assert not died_between or ended_between is False


def test_a_dropped_verdict_has_operator_and_reason() -> None:
    rig = Rig()
    rig.die(letter(1), letter(2))
    (batch,) = read_letters(rig.history(), rig.listed(LetterFilter(deliveries=frozenset({letter(1).id}))))
    append_dropped(rig.bus, batch, rig.clock.now(), by="jo@host", why="old news")
    (dropped,) = (one for one in verdicts(rig.bus) if one.state is VerdictState.DROPPED)
    assert (dropped.by, dropped.why, dropped.source) == ("jo@host", "old news", str(letter(1).source))
    assert dropped.attempts == letter(1).attempts
    assert [one.id for one in rig.listed()] == [letter(2).id]
    assert len(rig.listed(dropped=True)) == 2


def test_records_that_are_no_letters_or_verdicts_are_skipped() -> None:
    rig = Rig()
    rig.die(letter(1))
    deep = b'{"more":' + b"[" * 100_000
    rig.bus.append(
        [
            NewRecord(topic, value)
            for topic in (DEAD_LETTERS, VERDICTS)
            for value in (b"", b"junk", deep, b"\xff", b'{"delivery": 1}')
        ]
    )
    assert rig.redrive(FIRST).counts == Counter({RedriveResult.SENT: 1})


def test_a_redrive_id_has_the_time_of_its_start() -> None:
    made = new_redrive_id(1_700_000_000_000)
    assert made.startswith("20231114-221320-")
    assert parse_redrive_id(made) == made
    assert made != new_redrive_id(1_700_000_000_000)
    for text in (made[:-1], f"{made}\n", ""):
        with pytest.raises(InputError, match="not a redrive id"):
            parse_redrive_id(text)


def test_only_selected_letters_are_sent() -> None:
    rig = Rig()
    rig.die(letter(1))
    rig.die(letter(2), exhausted=Exhausted.AGE)
    wanted = LetterFilter(exhausted=Exhausted.AGE)
    assert rig.redrive(Redrive(id=FIRST.id, selection=wanted, rate=1000)).counts == Counter(
        {RedriveResult.SENT: 1}
    )
    assert [one.id for one in rig.appended()] == [letter(2).id]
    assert len(records(rig.bus, VERDICTS)) == 2

"""Mutes, also across crashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.bus.open import open_bus
from heliograph.operations.deliveries import list_deliveries
from heliograph.operations.history import History
from heliograph.operations.subscriptions import apply
from router import mutes as mutes_module
from router.events import Router
from router.match.index import Match
from router.mutes import Mutes
from schemas.clock import ManualClock
from schemas.delivery import Attempts, Verdict, VerdictState, delivery_id
from schemas.notification import check
from schemas.record import NewRecord, Position
from schemas.subscription import LONGEST_MUTE
from schemas.topics import MUTES, VERDICTS
from tests.router.deliver.engine import records, verdicts
from tests.router.events import KINDS, event, event_record, subscription
from tests.router.test_loop import counted, deliveries

TOPIC = "events.ecs.instance"
MUTED = 60
"""Seconds of `mute_for`."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    return MemoryBus(clock, partitions=1)


@pytest.fixture
def router(bus: MemoryBus) -> Iterator[Router]:
    router = Router(bus)
    yield router
    router.close()


def numbered(number: int, **changes: object) -> NewRecord:
    """Returns an event with its own id and the given changes."""
    value = event(id=f"E-{number}", **changes)
    return event_record(value, key=check(value).resource_id.encode())


def arn(resource: int) -> str:
    return f"acs:ecs:cn-hangzhou:1690:instance/i-{resource}"


def delivered_offsets(bus: MemoryBus, name: str = "all") -> list[int]:
    """Returns the offsets of the events that were delivered to a subscription."""
    return sorted({one.source.offset for one in deliveries(bus) if one.subscription == name})


def muted(bus: MemoryBus, name: str = "all") -> list[int]:
    return sorted({Position.parse(one.source).offset for one in verdicts(bus) if one.subscription == name})


def after(bus: MemoryBus, router: Router, clock: ManualClock, *passes: float, **changes: object) -> None:
    """Appends an event after each pause, in seconds, and routes it."""
    for seconds in passes:
        clock.advance(seconds)
        end = sum(extent.end for extent in bus.extents(TOPIC).values())
        bus.append([numbered(end, **changes)])
        router.step(0)


def test_events_like_a_delivered_one_are_muted_until_the_mute_has_passed(
    bus: MemoryBus, router: Router, clock: ManualClock
) -> None:
    apply(bus, [subscription(mute_for="1m"), subscription("loud")], KINDS)
    after(bus, router, clock, 0, 1, 58.999, 0.001, 59.999, 60)
    assert delivered_offsets(bus) == [0, 3, 5]
    assert muted(bus) == [1, 2, 4]
    assert delivered_offsets(bus, "loud") == [0, 1, 2, 3, 4, 5]


def test_another_level_name_or_resource_is_not_muted(
    bus: MemoryBus, router: Router, clock: ManualClock
) -> None:
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    for changes in ({}, {"level": "WARN"}, {"name": "Instance:Other"}, {"resourceId": arn(2)}):
        after(bus, router, clock, 1, **changes)
    assert delivered_offsets(bus) == [0, 1, 2, 3]
    after(bus, router, clock, 1, level="WARN")
    assert muted(bus) == [4]


def test_a_muted_delivery_has_a_verdict_at_each_target(
    bus: MemoryBus, router: Router, clock: ManualClock
) -> None:
    targets = [{"id": one, "kind": "note", "text": one} for one in ("first", "second")]
    version = apply(bus, [subscription("muting", mute_for=MUTED, target=targets)], KINDS).version
    after(bus, router, clock, 0, 1)
    opener, repeat = (Position(TOPIC, 0, offset) for offset in (0, 1))
    assert sorted(verdicts(bus), key=lambda one: one.target) == [
        Verdict(
            delivery=delivery_id(bus.log_id, repeat, "muting", target),
            state=VerdictState.MUTED,
            source=str(repeat),
            subscription="muting",
            target=target,
            resource="acs:ecs:cn-hangzhou:1690:instance/i-one",
            at=ManualClock().now() + 1000,
            configuration=version,
            attempts=Attempts(),
            opener=str(opener),
        )
        for target in ("first", "second")
    ]
    assert {record.key for record in records(bus, VERDICTS)} == {b"first", b"second"}
    states = {
        one.source: (one.state, one.attempts.count, one.detail) for one in list_deliveries(History(bus))
    }
    assert states[str(repeat)] == ("muted", 0, f"muted by the event at {opener}")
    assert counted("heliograph_verdicts_total", target="second", state="muted") == 1
    assert counted("heliograph_matched_total", subscription="muting") == 2


def test_a_changed_mute_for_applies_to_open_mutes(bus: MemoryBus, router: Router, clock: ManualClock) -> None:
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    after(bus, router, clock, 0, 1)
    apply(bus, [subscription(mute_for=5)], KINDS)
    after(bus, router, clock, 1, 5)
    apply(bus, [subscription(mute_for="1d")], KINDS)
    after(bus, router, clock, 3600)
    apply(bus, [subscription()], KINDS)
    after(bus, router, clock, 1)
    assert delivered_offsets(bus) == [0, 3, 5]


def test_a_mute_opened_by_a_clock_far_ahead_lasts_no_longer(
    bus: MemoryBus, router: Router, clock: ManualClock
) -> None:
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    clock.step(86_400 * 365)
    after(bus, router, clock, 0)
    clock.step(-86_400 * 365)
    after(bus, router, clock, 0, 1)
    assert delivered_offsets(bus) == [0, 1]


def test_the_longest_mute_outlasts_a_restart(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, [subscription(mute_for=LONGEST_MUTE)], KINDS)
    for passes in (0, LONGEST_MUTE - 0.001, 0.001):
        router = Router(bus)
        after(bus, router, clock, passes)
        router.close()
    assert delivered_offsets(bus) == [0, 2]


def test_unreadable_records_among_the_mutes_are_skipped(
    bus: MemoryBus, router: Router, clock: ManualClock
) -> None:
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    after(bus, router, clock, 0)
    strange = records(bus, MUTES)[0].value.replace(f"{TOPIC}:0:0".encode(), b"nowhere")
    bus.append([NewRecord(MUTES, value) for value in (b"", b"[" * 100_000, strange)])
    router.close()
    again = Router(bus)
    after(bus, again, clock, 1)
    assert muted(bus) == [1]
    again.close()


def test_the_oldest_mutes_are_dropped_when_there_are_too_many(
    bus: MemoryBus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutes_module, "REMEMBERED", 2)
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    router = Router(bus)
    for resource in (0, 1, 2, 3, 4, 4, 0):
        after(bus, router, clock, 1, resourceId=arn(resource))
    assert muted(bus) == [5]
    router.close()


def test_an_event_is_never_muted_by_its_own_mute(bus: MemoryBus, router: Router) -> None:
    """A router killed between append and commit leaves mutes of events that the next router routes again."""
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    bus.append([numbered(0), numbered(1)])
    router.step(0)
    first, second = records(bus, TOPIC)
    match = Match("all", (), MUTED * 1000)
    assert Mutes(bus).find_muting(first, check(first.value), match) is None
    assert Mutes(bus).find_muting(second, check(second.value), match) == first.position


def test_of_several_mutes_the_one_of_the_last_position_counts(bus: MemoryBus, clock: ManualClock) -> None:
    """A slow router may append the mute of an earlier event after that of a later event."""
    bus.create(TOPIC)
    apply(bus, [subscription(mute_for=MUTED)], KINDS)
    router = Router(bus)
    after(bus, router, clock, 0, MUTED, 1)
    router.close()
    early, late = records(bus, MUTES)
    bus.append([NewRecord(MUTES, early.value, early.key)])
    last = records(bus, TOPIC)[-1]
    match = Match("all", (), MUTED * 1000)
    assert Mutes(bus).find_muting(last, check(last.value), match) == Position(TOPIC, 0, 1)
    assert late.value != early.value


def test_events_are_muted_on_the_sqlite_bus(tmp_path: Path) -> None:
    with closing(open_bus(f"sqlite://{tmp_path}/bus.db")) as log:
        apply(log, [subscription(mute_for=LONGEST_MUTE)], KINDS)
        positions: list[Position] = []
        for number in range(3):
            positions += log.append([numbered(number)])
            router = Router(log)
            while log.lag("router").get(positions[0].topic_partition, (0, 0))[0] <= number:
                router.step(0.1)
            router.close()
        states = {one.source: one.state for one in list_deliveries(History(log))}
        assert [states[str(one)] for one in positions] == ["under-way", "muted", "muted"]

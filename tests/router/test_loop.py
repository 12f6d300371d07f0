"""The router of events, on a bus in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from heliograph.bus.memory import MemoryBus, MemoryConsumer
from heliograph.bus.open import open_bus
from heliograph.operations.events import find_by_id
from heliograph.operations.subscriptions import apply, await_routers, delete
from heliograph.operations.why import explain_routing
from router.events import Router
from router.routing import Routed, read_routed
from schemas.clock import ManualClock
from schemas.delivery import Delivery, delivery_id, read_delivery
from schemas.errors import BusFull
from schemas.record import CHECKED, NewRecord, Position, Record, TopicPartition
from schemas.topics import DELIVERIES, EVENT_LIMIT, RECORD_LIMIT, REJECTS
from tests.router.events import KINDS, event, event_record, subscription

TOPIC = "events.ecs.instance"


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=2)


@pytest.fixture
def router(bus: MemoryBus) -> Iterator[Router]:
    router = Router(bus)
    yield router
    router.close()


def records(bus: MemoryBus, topic: str) -> list[Record]:
    return [record for partition in bus.extents(topic) for record in bus.read(partition, 0, 100_000).records]


def deliveries(bus: MemoryBus) -> list[Delivery]:
    return [read_delivery(record) for record in records(bus, DELIVERIES)]


def reports(bus: MemoryBus) -> list[Routed]:
    return [routed for _, routed in read_routed(bus)]


def unread(bus: MemoryBus, topic: str = TOPIC) -> int:
    cursors = bus.lag("router")
    return sum(extent.end - cursors[partition].cursor for partition, extent in bus.extents(topic).items())


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0


def test_an_event_becomes_a_delivery_for_each_target_of_each_subscription(
    bus: MemoryBus, router: Router
) -> None:
    targets = [{"id": one, "kind": "note", "text": one} for one in ("shared", "own")]
    version = apply(
        bus,
        [
            subscription("both", target=targets),
            subscription("one", target=targets[:1], levels=["INFO"]),
            subscription("none", product="RDS"),
            subscription("off", enabled=False),
        ],
        KINDS,
    ).version
    value = event().replace(b'"INFO"', b'  "INFO" ')
    (source,) = bus.append([event_record(value)])
    router.step(0)
    made = deliveries(bus)
    assert {(one.subscription, one.target) for one in made} == {
        ("both", "shared"),
        ("both", "own"),
        ("one", "shared"),
    }
    assert len({one.id for one in made}) == 3
    for one in made:
        assert one.id == delivery_id(bus.log_id, source, one.subscription, one.target)
        assert (one.source, one.event, one.configuration) == (source, value, version)
        assert one.resource == "acs:ecs:cn-hangzhou:1690:instance/i-one"
        assert one.event_time == ManualClock().now()
        assert (one.attempts.count, one.wait) == (0, None)
    assert {record.key for record in records(bus, DELIVERIES)} == {b"shared", b"own"}
    assert unread(bus) == 0


def test_every_topic_of_events_is_routed(bus: MemoryBus, router: Router) -> None:
    apply(bus, [subscription()], KINDS)
    router.step(0)
    bus.append(
        [event_record(topic="events.other"), event_record(topic="events.rds.db"), event_record(topic="queue")]
    )
    router.step(0)
    router.step(0)
    assert {one.source.topic for one in deliveries(bus)} == {"events.other", "events.rds.db"}


def test_a_subscription_applies_to_every_event_appended_after_it(bus: MemoryBus, router: Router) -> None:
    """Subscription and event may both be appended while the router waits in a poll."""
    router.step(0)
    waiting = threading.Thread(target=router.step, args=[0.2])
    waiting.start()
    apply(bus, [subscription()], KINDS)
    bus.append([event_record()])
    waiting.join()
    router.step(0)
    assert len(deliveries(bus)) == 1


def test_a_deleted_subscription_gets_nothing_more(bus: MemoryBus, router: Router) -> None:
    apply(bus, [subscription()], KINDS)
    bus.append([event_record()])
    router.step(0)
    version = delete(bus, "all")
    bus.append([event_record()])
    router.step(0)
    assert len(deliveries(bus)) == 1
    assert reports(bus)[-1].version == version


HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"product": "\\ud800"}',
    b"[" * 100_000,
    event(level="FATAL"),
    event(resourceId="i-one"),
    event(name="x" * 600),
    event(pad="x" * EVENT_LIMIT),
]


@pytest.mark.parametrize("headers", [(), ((CHECKED, b"1"),)], ids=["unmarked", "marked"])
def test_a_record_that_is_no_notification_goes_to_rejects(
    bus: MemoryBus, router: Router, headers: Sequence[tuple[str, bytes]]
) -> None:
    apply(bus, [subscription()], KINDS)
    good = [event(id=f"E-{number}") for number in range(len(HOSTILE))]
    for value, after in zip(HOSTILE, good, strict=True):
        bus.append([NewRecord(TOPIC, value, b"k", tuple(headers)), event_record(after, key=b"k")])
    router.step(0)
    assert {one.event for one in deliveries(bus)} >= set(good)
    assert unread(bus) == 0
    rejected = {record.value[:40] for record in records(bus, REJECTS)}
    delivered = {one.event[:40] for one in deliveries(bus)}
    assert rejected | delivered >= {value[:40] for value in HOSTILE}
    if not headers:
        assert delivered == {value[:40] for value in good}


def test_a_reject_has_the_field_at_fault_and_its_position(bus: MemoryBus, router: Router) -> None:
    (position,) = bus.append([NewRecord(TOPIC, event(level="FATAL"))])
    router.step(0)
    (rejected,) = records(bus, REJECTS)
    said = b" ".join(value for _, value in rejected.headers)
    assert b"level: 'FATAL'" in said
    assert str(position).encode() in said


def test_a_record_of_the_largest_size_does_not_block_its_partition(bus: MemoryBus, router: Router) -> None:
    """Its delivery would be too large for any topic, although its producer marked it as checked."""
    apply(bus, [subscription()], KINDS)
    largest = event(pad="x" * (RECORD_LIMIT - len(event()) - 60))
    bus.append([event_record(largest), NewRecord(TOPIC, b"x" * (RECORD_LIMIT - 10), b"k")])
    router.step(0)
    assert unread(bus) == 0
    assert len(records(bus, REJECTS)) == 2


def test_the_version_is_recorded_in_the_first_commit_that_uses_it(bus: MemoryBus, router: Router) -> None:
    bus.append([event_record(key=b"k")])
    router.step(0)
    first = apply(bus, [subscription()], KINDS).version
    (position,) = bus.append([event_record(key=b"k")])
    router.step(0)
    start, last = reports(bus)
    assert (start.version, last.version) == (0, first)
    assert start.start[f"{TOPIC}:{position.partition}"] == 0
    assert last.start[f"{TOPIC}:{position.partition}"] == position.offset
    assert last.covers(position)
    assert not last.covers(Position(TOPIC, position.partition, position.offset - 1))
    router.step(0)
    assert len(reports(bus)) == 2


def test_an_idle_router_confirms_a_new_version(bus: MemoryBus, router: Router) -> None:
    router.step(0)
    version = apply(bus, [subscription()], KINDS).version
    assert not await_routers(bus, version, 0).confirmed
    router.step(0)
    waited = await_routers(bus, version, 0)
    assert waited.members == waited.confirmed
    assert len(waited.members) == 1


def test_gained_partitions_are_recorded_from_their_committed_offset(bus: MemoryBus, router: Router) -> None:
    apply(bus, [subscription()], KINDS)
    bus.append([event_record(key=b"%d" % number) for number in range(10)])
    router.step(0)
    other = Router(bus)
    other.step(0)
    router.step(0)
    other.step(0)
    taken = reports(bus)[-1]
    assert taken.member != reports(bus)[0].member
    assert taken.start
    ends = {str(partition): extent.end for partition, extent in bus.extents(TOPIC).items()}
    assert all(ends[partition] == offset for partition, offset in taken.start.items())
    other.close()
    router.step(0)
    assert set(reports(bus)[-1].start) == set(ends)


def test_a_repeated_commit_has_the_same_delivery_ids(
    bus: MemoryBus, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(bus, [subscription()], KINDS)
    bus.append([event_record()])

    def full(*_arguments: object, **_keywords: object) -> Sequence[Position]:
        raise BusFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryConsumer, "done", full)
        with pytest.raises(BusFull):
            router.step(0)
    assert router.busy()
    router.close()
    assert not deliveries(bus)
    again = Router(bus)
    again.step(0)
    (made,) = deliveries(bus)
    assert made.id == delivery_id(bus.log_id, made.source, "all", "all-target")
    again.close()


def test_many_deliveries_of_one_poll_are_several_commits(
    bus: MemoryBus, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of one poll may become millions of deliveries, too many for memory and for others who append."""
    apply(bus, [subscription(f"s{number}") for number in range(1000)], KINDS)
    bus.append([event_record(event(id=f"E-{number}")) for number in range(50)])
    commits: list[int] = []
    done = MemoryConsumer.done

    def counting(
        consumer: MemoryConsumer, positions: Iterable[Position], append: Sequence[NewRecord] = ()
    ) -> Sequence[Position]:
        commits.append(len(append))
        return done(consumer, positions, append)

    monkeypatch.setattr(MemoryConsumer, "done", counting)
    router.step(0)
    assert router.busy()
    assert unread(bus) == 30
    while router.busy():
        router.step(0)
    assert unread(bus) == 0
    assert max(commits) <= 20_001  # and the report to `routing`
    assert len({delivery.id for delivery in deliveries(bus)}) == 50_000
    assert len(reports(bus)) == 1


def test_lost_records_are_logged_and_counted(bus: MemoryBus, router: Router) -> None:
    apply(bus, [subscription()], KINDS)
    events = [event_record(event(id=f"E-{number}")) for number in range(10)]
    positions = bus.append(events[:5])
    router.step(0)
    bus.append(events[5:])
    bus.truncate(TopicPartition(TOPIC, positions[0].partition), 8)
    before = counted("heliograph_gap_records_total", role="router", topic=TOPIC)
    with capture_logs() as logs:
        router.step(0)
    assert [(one["log_level"], one["start"], one["end"]) for one in logs] == [("error", 5, 8)]
    assert counted("heliograph_gap_records_total", role="router", topic=TOPIC) - before == 3
    assert len(deliveries(bus)) == 7


def test_routed_matched_and_rejected_events_are_counted(bus: MemoryBus, router: Router) -> None:
    rejected = counted("heliograph_rejected_total", where="router")
    apply(bus, [subscription("counted", levels=["INFO"])], KINDS)
    values = [event(), event(level="WARN"), event(id="E-2"), b"poison"]
    bus.append([event_record(value, topic="events.counted") for value in values])
    router.step(0)
    router.step(0)
    assert counted("heliograph_routed_total", topic="events.counted") == 3
    assert counted("heliograph_matched_total", subscription="counted") == 2
    assert counted("heliograph_rejected_total", where="router") - rejected == 1


def test_an_idle_router_is_not_busy(bus: MemoryBus, router: Router) -> None:
    assert (router.name, router.topics) == ("router", ("events.*",))
    bus.append([event_record()])
    assert not router.busy()
    router.step(0)
    assert not router.busy()
    router.flush()
    router.wake()
    router.step(60)


def test_events_are_routed_and_explained_on_the_sqlite_bus(tmp_path: Path) -> None:
    with closing(open_bus(f"sqlite://{tmp_path}/bus.db")) as log:
        router = Router(log)
        version = apply(log, [subscription("yes"), subscription("no", levels=["CRITICAL"])], KINDS).version
        (position, _) = log.append([event_record(key=b"k"), NewRecord(TOPIC, b"poison", b"k")])
        while not log.extents(REJECTS):
            router.step(0.1)
        waited = await_routers(log, version, 0)
        assert (len(waited.members), waited.members) == (1, waited.confirmed)
        router.close()
        (partition,) = (one for one, extent in log.extents(DELIVERIES).items() if extent.end)
        (made,) = map(read_delivery, log.read(partition, 0).records)
        answers = {one.subscription: one.deliveries for one in explain_routing(log, position)}
        assert answers == {"yes": [("yes-target", made.id)], "no": []}
        assert find_by_id(log, "E-1")[0].position == position

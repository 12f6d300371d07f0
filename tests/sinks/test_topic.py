"""Sinks of kind `topic`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import BusDamaged, BusError, BusFull, BusUnavailable, RecordTooLarge, TopicMissing
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.topics import EVENT_LIMIT
from sinks.base import Sink, SinkContext
from sinks.topic import KIND, TopicSettings, TopicSink
from tests.conformance.sink import Gate, SinkConformance, SinkDriver, make_delivery
from tests.sinks.receiver import EVENT, delivery


class CountingBus(MemoryBus):
    """Counts appends, raises `failure` if one is set, and refuses records above the edge's limit."""

    def __init__(self, failure: BusError | None = None) -> None:
        super().__init__(partitions=1)
        self.appends: list[int] = []
        self._failure = failure

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self.appends.append(len(records))
        if self._failure is not None:
            raise self._failure
        if any(len(record.value) > EVENT_LIMIT for record in records):
            raise RecordTooLarge("queue.ops: a record is too large")
        return super().append(records)


def deliver(bus: MemoryBus, batch: Sequence[Delivery]) -> Sequence[Outcome]:
    async def work() -> Sequence[Outcome]:
        sink = KIND.build(
            TopicSettings(topic="queue.ops"), SinkContext(bus=bus, objects=MemoryStore(), logs=Path())
        )
        try:
            return await sink.deliver(batch)
        finally:
            await sink.close()

    return asyncio.run(work())


def stored(bus: MemoryBus) -> Sequence[Record]:
    return bus.read(TopicPartition("queue.ops", 0), 0).records


def test_a_batch_becomes_records_in_one_append() -> None:
    bus = CountingBus()
    outcomes = deliver(bus, [delivery(number) for number in range(500)])
    assert outcomes == [Delivered(f"queue.ops:0:{number}") for number in range(500)]
    assert bus.appends == [500]
    record = stored(bus)[7]
    assert record.value == EVENT
    assert record.key == b"acs:ecs:cn-hangzhou:1690:disk/d-1"
    assert record.headers == (
        ("heliograph-format", b"1"),
        ("delivery", b"id7"),
        ("source", b"events.ecs.disk:0:7"),
        ("subscription", b"sub"),
        ("event-time", b"1554783506922"),
    )


def test_a_record_that_is_too_large_does_not_affect_the_others() -> None:
    bus = CountingBus()
    outcomes = deliver(bus, [delivery(1), delivery(2, b"x" * (EVENT_LIMIT + 1)), delivery(3)])
    assert outcomes == [
        Delivered("queue.ops:0:0"),
        Rejected(Reason(ReasonCode.TOO_LARGE, "queue.ops: a record is too large")),
        Delivered("queue.ops:0:1"),
    ]
    assert [record.headers[1] for record in stored(bus)] == [("delivery", b"id1"), ("delivery", b"id3")]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (BusFull("no space left"), ReasonCode.UNAVAILABLE),
        (BusUnavailable("locked"), ReasonCode.UNAVAILABLE),
        (BusDamaged("damaged"), ReasonCode.UNAVAILABLE),
        (TopicMissing("no topic"), ReasonCode.MISCONFIGURED),
    ],
)
def test_a_bus_that_fails_is_a_retry(failure: BusError, code: ReasonCode) -> None:
    assert (
        deliver(CountingBus(failure), [delivery(1), delivery(2)]) == [Retry(Reason(code, str(failure)))] * 2
    )


def test_an_exception_that_is_no_bus_error_is_raised() -> None:
    class Broken(MemoryBus):
        def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        deliver(Broken(), [delivery()])


def test_an_append_does_not_block_the_event_loop() -> None:
    """The append waits for a coroutine on the loop, so it would hang if it ran on the loop."""

    class Waiting(MemoryBus):
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__()
            self._loop = loop

        def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(30)
            return super().append(records)

    async def work() -> Sequence[Outcome]:
        sink = TopicSink(TopicSettings(topic="queue.ops"), Waiting(asyncio.get_running_loop()))
        try:
            return await sink.deliver([delivery()])
        finally:
            await sink.close()

    assert len(asyncio.run(work())) == 1


@pytest.mark.parametrize(
    "topic",
    [
        "",
        ".",
        "..",
        "a b",
        "x" * 250,
        "é",
        "deliveries",
        "events.ecs.disk",
        "retries.1s",
        "subscriptions",
        "state",
    ],
)
def test_internal_topics_and_invalid_names_are_refused(topic: str) -> None:
    with pytest.raises(ValidationError, match=r"is not a topic's name|only heliograph writes to"):
        TopicSettings(topic=topic)


@pytest.mark.parametrize("topic", ["queue.ops", "audit", "A_b-1"])
def test_other_topic_names_are_allowed(topic: str) -> None:
    assert TopicSettings(topic=topic).topic == topic


class GatedBus(CountingBus):
    """Holds appends at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.problem: BusError | None = None

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self.gate.enter()
        if self.problem is not None:
            raise self.problem
        return super().append(records)


class TopicDriver(SinkDriver):
    """Sinks of kind `topic` on a bus in memory."""

    def __init__(self) -> None:
        self._bus = GatedBus()

    def build(self, *, patient: bool = True) -> Sink:
        return KIND.build(
            TopicSettings(topic="queue.ops"), SinkContext(bus=self._bus, objects=MemoryStore(), logs=Path())
        )

    def make_bad(self, number: int) -> Delivery:
        return make_delivery(number, bytes(EVENT_LIMIT + 1))

    def refuse_large(self) -> None:
        """The bus has the limit of the edge."""

    def time_out(self) -> None:
        self._bus.problem = BusUnavailable("timed out")

    def hold(self) -> None:
        self._bus.gate.shut()

    def is_holding(self) -> bool:
        return self._bus.gate.reached.is_set()

    def release(self) -> None:
        self._bus.problem = None
        self._bus.gate.open()


class TestTopicConformance(SinkConformance):
    @pytest.fixture
    def driver(self) -> SinkDriver:
        return TopicDriver()

"""The suite of the contract of sinks (`sinks/base.py`). Each kind inherits it and provides a driver.

    class TestMySink(SinkConformance):
        @pytest.fixture
        def driver(self) -> SinkDriver: ...

The counterpart is what the sink sends to, such as an HTTP server. If it hangs, the test releases it, or the time limit
of the kind ends the call.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, ClassVar

import msgspec
import pytest
import structlog.testing

from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry
from schemas.record import Position
from schemas.topics import EVENT_LIMIT
from sinks.base import Sink

ODD_TEXTS = {
    "not UTF-8": b"\xff\xfe",
    "lone surrogate": rb"\ud83d",
    "escaped control characters": rb"\u0000\u001b[31m\r\n\u2028\u202e",
    "raw control characters": b"\x01\x1b",
    "header": rb"\r\nx-evil: 1\r\n\r\n",
    "long": b"x" * 20_000,
    "emoji": "👩‍👩‍👧 é".encode(),
    "path": b"../../..",
}
"""Unusual texts that producers may send inside a JSON string, by description."""


def make_event(number: int, text: bytes = b"ok") -> bytes:
    """Builds a notification with `text` in each field whose text the producer chooses freely."""
    return (
        b'{"ver":"1.0","id":"5E-%d %b","product":"ECS","resourceId":"acs:ecs:cn-hangzhou:1690:disk/d-1",'
        b'"level":"CRITICAL","name":"Disk:Stalled:%b","userId":"1690","eventTime":"20190409T121826.922+0800",'
        b'"regionId":"cn-hangzhou","content":{"diskId":"d-1","text":"%b"}}' % (number, text, text, text)
    )


def make_delivery(number: int, event: bytes) -> Delivery:
    """Builds a delivery of `event`."""
    return Delivery(
        id=f"id{number}",
        source=Position("events.ecs.disk", 0, number),
        subscription="sub",
        target="ops",
        resource="acs:ecs:cn-hangzhou:1690:disk/d-1",
        event=event,
        event_time=1_554_783_506_922,
        configuration=1,
    )


class Gate:
    """Makes threads wait while it is shut."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def shut(self) -> None:
        """Makes threads that enter from now on wait."""
        self._open.clear()

    def open(self) -> None:
        """Lets all threads continue, also those that wait."""
        self._open.set()

    def enter(self) -> None:
        """Waits while the gate is shut. Called by the counterpart."""
        self.reached.set()
        assert self._open.wait(60), "nobody opened the gate"


class SinkDriver(ABC):
    """Builds the sinks of one kind, and controls the counterpart that they send to."""

    takes_any_size: ClassVar[bool] = False
    """True if counterparts of the kind accept events of any size."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Runs the counterpart on the test's loop, if it needs one."""
        return nullcontext()

    @abstractmethod
    def build(self, *, patient: bool = True) -> Sink:
        """Builds a sink for the counterpart, as the deliverer does. `patient`: False for the shortest time limit with
        which a delivery can succeed, if the kind has a time limit."""

    def make(self, number: int, text: bytes = b"ok") -> Delivery:
        """Builds a delivery that the counterpart accepts, with `text` in its event."""
        return make_delivery(number, make_event(number, text))

    @abstractmethod
    def make_bad(self, number: int) -> Delivery:
        """Builds a delivery that cannot succeed, whatever the counterpart does."""

    @abstractmethod
    def refuse_large(self) -> None:
        """Makes the counterpart refuse events above EVENT_LIMIT, unless it accepts any size."""

    @abstractmethod
    def time_out(self) -> None:
        """Makes the counterpart hang beyond the time limit of the kind, or fail with its own time-out."""

    @abstractmethod
    def hold(self) -> None:
        """Makes the counterpart hang until `release`."""

    @abstractmethod
    def is_holding(self) -> bool:
        """True once a delivery has reached the counterpart that hangs."""

    @abstractmethod
    def release(self) -> None:
        """Ends the hang of the counterpart, also for later deliveries."""


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def work() -> None:
            await test(*args, **kwargs)

        asyncio.run(work())

    return run


@asynccontextmanager
async def opened(driver: SinkDriver, *, patient: bool = True) -> AsyncGenerator[Sink]:
    """Runs the counterpart, yields a sink for it, and closes the sink at the end."""
    async with driver.running():
        sink = driver.build(patient=patient)
        try:
            yield sink
        finally:
            driver.release()
            await sink.close()


async def start(sink: Sink, driver: SinkDriver, *batch: Delivery) -> asyncio.Task[Sequence[Outcome]]:
    """Starts a delivery to a counterpart that hangs, and waits until it has arrived there."""
    driver.hold()

    async def deliver() -> Sequence[Outcome]:
        return await sink.deliver(batch)

    task = asyncio.create_task(deliver())
    while not driver.is_holding():
        assert not task.done(), task
        await asyncio.sleep(0.001)
    return task


def text_of(outcome: Outcome) -> str:
    return outcome.receipt if isinstance(outcome, Delivered) else outcome.reason.detail


class SinkConformance:
    """Tests of every kind."""

    @on_loop
    async def test_each_delivery_has_its_outcome_in_order(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            bad = {0, 3, 4, 11}
            batch = [driver.make_bad(n) if n in bad else driver.make(n) for n in range(12)]
            outcomes = await sink.deliver(batch)
            assert {n for n, one in enumerate(outcomes) if not isinstance(one, Delivered)} == bad
            assert len(outcomes) == len(batch)
            assert all(isinstance(one, Delivered | Retry | Rejected) for one in outcomes)

    @on_loop
    async def test_an_empty_batch_has_no_outcomes(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            assert list(await sink.deliver([])) == []

    @on_loop
    async def test_a_repeat_of_a_delivery_is_delivered(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            for _ in range(2):
                (outcome,) = await sink.deliver([driver.make(1)])
                assert isinstance(outcome, Delivered)

    @on_loop
    async def test_a_timeout_of_the_counterpart_gives_a_retry(self, driver: SinkDriver) -> None:
        async with opened(driver, patient=False) as sink:
            driver.time_out()
            (outcome,) = await sink.deliver([driver.make(1)])
            assert isinstance(outcome, Retry)
            driver.release()
            (outcome,) = await sink.deliver([driver.make(2)])
            assert isinstance(outcome, Delivered)

    @on_loop
    async def test_a_cancelled_delivery_leaves_the_sink_usable(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            task = await start(sink, driver, driver.make(1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            driver.release()
            outcomes = await sink.deliver([driver.make(1), driver.make(2)])
            assert [type(one) for one in outcomes] == [Delivered] * 2

    @on_loop
    async def test_closing_twice_changes_nothing(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            await sink.deliver([driver.make(1)])
            await sink.close()
            await sink.close()

    @on_loop
    async def test_a_sink_that_was_never_used_closes(self, driver: SinkDriver) -> None:
        async with opened(driver):
            pass

    @on_loop
    async def test_after_the_close_every_outcome_is_a_retry(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            await sink.deliver([driver.make(1)])
            await sink.close()
            outcomes = await sink.deliver([driver.make(2), driver.make(3)])
            assert [type(one) for one in outcomes] == [Retry] * 2

    @on_loop
    async def test_a_close_during_a_delivery_still_gives_its_outcome(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            task = await start(sink, driver, driver.make(1))
            closing = asyncio.ensure_future(sink.close())
            await asyncio.sleep(0)
            driver.release()
            (outcome,) = await task
            await closing
            assert isinstance(outcome, Delivered | Retry)

    @on_loop
    async def test_the_largest_event_of_the_edge_is_delivered(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            driver.refuse_large()
            one = driver.make(1)
            padded = msgspec.structs.replace(one, event=one.event.ljust(EVENT_LIMIT))
            (outcome,) = await sink.deliver([padded])
            assert isinstance(outcome, Delivered)

    @on_loop
    async def test_an_event_that_is_too_large_does_not_affect_the_others(self, driver: SinkDriver) -> None:
        async with opened(driver) as sink:
            driver.refuse_large()
            one = driver.make(2)
            large = msgspec.structs.replace(one, event=one.event.ljust(4 * EVENT_LIMIT))
            first, middle, last = await sink.deliver([driver.make(1), large, driver.make(3)])
            assert isinstance(first, Delivered)
            assert isinstance(last, Delivered)
            assert isinstance(middle, Delivered) == driver.takes_any_size

    @pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=list(ODD_TEXTS))
    @on_loop
    async def test_odd_text_neither_fails_other_deliveries_nor_garbles_its_outcome(
        self, driver: SinkDriver, text: bytes
    ) -> None:
        async with opened(driver) as sink:
            first, odd, last = await sink.deliver([driver.make(1), driver.make(2, text), driver.make(3)])
            assert isinstance(first, Delivered)
            assert isinstance(last, Delivered)
            told = text_of(odd)
            assert told.isprintable()
            assert len(told) < 2000


class SecretSinkConformance(SinkConformance):
    """Tests of kinds whose settings name secrets."""

    @pytest.mark.parametrize("secret", ["hunter2-hunter2", "Bearer correct-horse"])
    @on_loop
    async def test_a_secret_is_in_no_outcome_repr_or_log_line(
        self, driver: SinkDriver, secret: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(driver, SecretDriver)
        async with driver.running():
            with structlog.testing.capture_logs() as lines:
                for sink in driver.build_failing(secret, monkeypatch):
                    try:
                        outcomes = await sink.deliver([driver.make(1)])
                    finally:
                        await sink.close()
                    assert not isinstance(outcomes[0], Delivered)
                    for word in secret.split():
                        assert len(word) < 8 or word not in repr((outcomes, sink, vars(sink), lines))


class SecretDriver(SinkDriver):
    """A driver for a kind whose settings name secrets."""

    @abstractmethod
    def build_failing(self, secret: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[Sink]:
        """Builds a sink for each way to use the secret. The counterpart refuses the secret, and its answer repeats the
        secret if possible."""

"""The conformance suite of sinks, run for kind `callback` in each of its formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from schemas.delivery import Delivery
from schemas.topics import EVENT_LIMIT
from sinks.base import Sink
from tests.conformance.sink import SecretDriver, SecretSinkConformance, SinkDriver, make_delivery, make_event
from tests.sinks.callback.calling import sink_of
from tests.sinks.receiver import Receiver, answer, receiving

REFERENCE = "env:CALLBACK_SECRET"


class CallbackDriver(SecretDriver):
    """Sinks that call a receiver on loopback."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._receiver = Receiver()
        self._open = asyncio.Event()
        self._open.set()
        self._reached = False
        self._limit: int | None = None
        self._told = b""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async def reply(writer: asyncio.StreamWriter) -> None:
            self._reached = True
            await self._open.wait()
            size = len(self._receiver.requests[-1].body)
            too_large = self._limit is not None and size > self._limit
            status = 401 if self._told else 413 if too_large else 200
            writer.write(answer(status, self._told))

        async with receiving(reply) as self._receiver:
            yield

    def build(self, *, patient: bool = True) -> Sink:
        return sink_of(self._receiver.url, timeout=30 if patient else 1, **self._settings)

    def make_bad(self, number: int) -> Delivery:
        good = make_delivery(number, make_event(number))
        return msgspec.structs.replace(good, id=f"id{number}\r\nx-evil: 1", event=b"[]")

    def refuse_large(self) -> None:
        self._limit = EVENT_LIMIT + 1024  # room for the attributes of CloudEvents

    def time_out(self) -> None:
        self.hold()

    def hold(self) -> None:
        self._open.clear()

    def is_holding(self) -> bool:
        return self._reached

    def release(self) -> None:
        self._open.set()

    def build_failing(self, secret: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[Sink]:
        monkeypatch.setenv("CALLBACK_SECRET", secret)
        self._told = f"no such secret: {secret}".encode()
        basic = {"user": "ops", "password": REFERENCE}
        ways: list[dict[str, Any]] = [
            {"headers": {"X-Token": REFERENCE}},
            {"bearer": REFERENCE},
            {"basic": basic},
        ]
        ways += [{"signing": [REFERENCE]}, {"bearer": REFERENCE, "url": "http://127.0.0.1:9/"}]
        return [sink_of(way.pop("url", self._receiver.url), **way) for way in ways]


@pytest.mark.parametrize("driver", ["event", "cloudevents-binary", "cloudevents-structured"], indirect=True)
class TestCallbackConformance(SecretSinkConformance):
    @pytest.fixture
    def driver(self, request: pytest.FixtureRequest) -> SinkDriver:
        return CallbackDriver(format=request.param)

"""Callbacks to a receiver on loopback."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from aiohttp import web

from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry
from sinks.base import SinkContext
from sinks.callback.query import QUERY
from sinks.callback.settings import CallbackSettings
from sinks.callback.sink import BATCH_BYTES, KIND, batch_id
from tests.sinks.callback.calling import call, call_replying, deliveries, sink_of
from tests.sinks.receiver import EVENT, Receiver, answer, delivery, receiving


def test_post_carries_the_events_bytes_and_the_delivery_id() -> None:
    outcomes, receiver = call_replying(answer(200, b"ok"))
    assert outcomes == [Delivered("ok", 200, f"127.0.0.1:{receiver.port}")]
    (request,) = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert request.body == EVENT
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-type": "application/json",
        "content-length": str(len(EVENT)),
        "user-agent": "heliograph",
        "accept": "*/*",
        "accept-encoding": "identity",
        "webhook-id": "id1",
        "heliograph-source": "events.ecs.disk:0:1",
    }


def test_an_aiohttp_server_receives_the_events_bytes() -> None:
    taken: list[bytes] = []
    receiver = Receiver()

    async def hook(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.Response(status=202, text="queued")

    async def work() -> Sequence[Outcome]:
        app = web.Application()
        app.router.add_post("/hook", hook)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            receiver.port = runner.addresses[0][1]
            return await call(receiver.url, deliveries(3))
        finally:
            await runner.cleanup()

    assert asyncio.run(work()) == [Delivered("queued", 202, f"127.0.0.1:{receiver.port}")] * 3
    assert taken == [EVENT] * 3


def test_get_carries_the_fields_as_query_parameters() -> None:
    outcomes, receiver = call_replying(answer(200), method="GET")
    assert outcomes == [Delivered("", 200, f"127.0.0.1:{receiver.port}")]
    (request,) = receiver.requests
    method, target, _ = request.line.split(" ")
    assert method == "GET"
    assert request.body == b""
    assert "content-type" not in request.headers
    query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True, strict_parsing=True))
    event = json.loads(EVENT)
    assert list(query) == list(QUERY)
    assert json.loads(query.pop("content")) == event["content"]
    assert query == {name: event[name] for name in QUERY if name != "content"}


def test_outcomes_come_in_order_over_one_connection() -> None:
    turn = iter([200, 404, 503, 200])

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(next(turn), b"", "Retry-After: Tue, 14 Nov 2023 22:14:20 GMT"))

    outcomes, receiver = call_replying(reply, deliveries(4), clock=ManualClock())
    assert [type(outcome) for outcome in outcomes] == [Delivered, Rejected, Retry, Delivered]
    address = f"127.0.0.1:{receiver.port}"
    failed = Reason(ReasonCode.RECEIVER_FAILED, "503 Service Unavailable", 503, address)
    assert outcomes[2] == Retry(failed, 60.0)
    assert [request.headers["webhook-id"] for request in receiver.requests] == ["id1", "id2", "id3", "id4"]
    assert receiver.connections == 1


def test_headers_are_sent_and_a_changed_secret_is_used_within_a_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer one\n")
    monkeypatch.setenv("TEAM", "ops")
    headers = {"Authorization": f"file:{token}", "X-Team": "env:TEAM", "User-Agent": "mine"}
    clock = ManualClock()

    async def work() -> Receiver:
        async with receiving(answer(200)) as receiver:
            sink = sink_of(receiver.url, clock, headers=headers)
            for _ in range(3):
                await sink.deliver([delivery()])
                token.write_text("Bearer two\n")
                clock.advance(0.6)
            await sink.close()
            return receiver

    requests = asyncio.run(work()).requests
    assert [one.headers["authorization"] for one in requests] == ["Bearer one", "Bearer one", "Bearer two"]
    assert {(one.headers["x-team"], one.headers["user-agent"]) for one in requests} == {("ops", "mine")}


def test_a_secret_that_the_receiver_repeats_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    outcomes, receiver = call_replying(answer(401, b"bad token hunter2"), headers={"X-Token": "env:TOKEN"})
    address = f"127.0.0.1:{receiver.port}"
    assert outcomes == [Rejected(Reason(ReasonCode.REFUSED, "401 Unauthorized: bad token ***", 401, address))]


@pytest.mark.parametrize("value", [None, "", "a\nb", "a\r\nX-Evil: 1", "a\0"])
def test_a_missing_or_unsendable_secret_is_a_retry_without_a_call(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    if value is not None:
        token.write_text(value)
    outcomes, receiver = call_replying(answer(200), headers={"X-Token": f"file:{token}"})
    (outcome,) = outcomes
    assert isinstance(outcome, Retry)
    assert outcome.reason.code is ReasonCode.MISCONFIGURED
    assert outcome.reason.detail.startswith(f"headers.X-Token: file:{token}: ")
    assert receiver.connections == 0


def test_without_allow_networks_loopback_is_rejected() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            sink_context = SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=Path())
            sink = KIND.build(CallbackSettings(url=receiver.url), sink_context)
            (outcome,) = await sink.deliver([delivery()])
            await sink.close()
            assert isinstance(outcome, Rejected)
            assert outcome.reason.code is ReasonCode.FORBIDDEN
            assert "[delivery] allow_networks" in outcome.reason.detail
            assert receiver.connections == 0

    asyncio.run(work())


def test_the_token_of_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "Bearer hunter2-hunter2")
    monkeypatch.setenv("PASSWORD", "correct-horse")
    told = b"no such token: hunter2-hunter2, correct-horse or b3BzOmNvcnJlY3QtaG9yc2U="
    choices: list[dict[str, Any]] = [
        {"headers": {"Authorization": "env:TOKEN", "X-Token": "env:PASSWORD"}},
        {"basic": {"user": "ops", "password": "env:PASSWORD"}, "headers": {"X-Token": "env:TOKEN"}},
    ]
    for settings in choices:
        outcomes, _ = call_replying(answer(401, told), **settings)
        assert "no such token: ***, ***" in repr(outcomes)
        assert ("b3BzOmNvcnJlY3QtaG9yc2U=" in repr(outcomes)) == ("basic" not in settings)


def test_bearer_and_basic_credentials_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "correct-horse")
    _, receiver = call_replying(answer(200), bearer="env:SECRET")
    assert receiver.requests[0].headers["authorization"] == "Bearer correct-horse"
    _, receiver = call_replying(answer(200), basic={"user": "ops", "password": "env:SECRET"})
    assert receiver.requests[0].headers["authorization"] == "Basic b3BzOmNvcnJlY3QtaG9yc2U="


def test_get_rejects_events_that_are_not_json_objects() -> None:
    deep = b'{"content":' + b"[" * 100_000
    batch = [delivery(1, event) for event in (b"junk", b'{"id":"\xff"}', deep)]
    outcomes, receiver = call_replying(answer(200), batch, method="GET")
    assert [type(outcome) for outcome in outcomes] == [Rejected] * 3
    assert receiver.connections == 0


def test_a_delivery_id_with_a_line_break_is_rejected() -> None:
    evil = msgspec.structs.replace(delivery(), id="id1\r\nx-evil: 1")
    for settings in ({}, {"format": "cloudevents-binary"}, {"method": "GET"}):
        (outcome,), receiver = call_replying(answer(200), [evil], **settings)
        assert isinstance(outcome, Rejected)
        assert receiver.connections == 0


@pytest.mark.parametrize(
    "format", ["event", "cloudevents-binary", "cloudevents-structured", "cloudevents-batch"]
)
def test_webhook_delivery_disable_rejects_in_every_format(format: str) -> None:
    outcomes, receiver = call_replying(
        answer(202, b"bye", "Webhook-Delivery: disable"), deliveries(2), format=format
    )
    address = f"127.0.0.1:{receiver.port}"
    gone = Reason(ReasonCode.GONE, "webhook-delivery: disable, 202 Accepted: bye", 202, address)
    assert outcomes == [Rejected(gone)] * 2


def test_deliveries_of_a_batch_share_a_call_and_its_outcome() -> None:
    outcomes, receiver = call_replying(answer(200, b"ok"), deliveries(3), format="cloudevents-batch")
    assert outcomes == [Delivered("ok", 200, f"127.0.0.1:{receiver.port}")] * 3
    (request,) = receiver.requests
    assert request.headers["webhook-id"] == batch_id(["id1", "id2", "id3"])
    assert [one["id"] for one in json.loads(request.body)] == ["id1", "id2", "id3"]
    assert "heliograph-source" not in request.headers


def test_an_invalid_event_is_rejected_alone_in_a_batch() -> None:
    batch = [delivery(1), delivery(2, b"junk"), delivery(3), delivery(4, EVENT.replace(b"\xc3", b"\xff"))]
    outcomes, receiver = call_replying(answer(200), batch, format="cloudevents-batch")
    assert [type(outcome) for outcome in outcomes] == [Delivered, Rejected, Delivered, Rejected]
    assert receiver.requests[0].headers["webhook-id"] == batch_id(["id1", "id3"])


def test_a_batch_of_too_many_bytes_is_several_calls() -> None:
    padding = b'{"pad":"' + b"x" * (BATCH_BYTES // 3) + b'",'
    batch = [delivery(number, padding + EVENT[1:]) for number in range(1, 6)]
    turn = iter([200, 503, 200])

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(next(turn)))

    outcomes, receiver = call_replying(reply, batch, format="cloudevents-batch")
    assert [len(json.loads(request.body)) for request in receiver.requests] == [2, 2, 1]
    assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered, Retry, Retry, Delivered]


def test_a_call_for_the_same_deliveries_has_the_same_id() -> None:
    assert batch_id(["a", "b"]) == batch_id(["a", "b"])
    assert len({batch_id(ids) for ids in (["a"], ["b"], ["a", "b"], ["b", "a"], ["ab"])}) == 5


def test_the_host_header_is_the_urls() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            await call(f"http://LOCALHOST:{receiver.port}/a?b=c#d", [delivery()])
            (request,) = receiver.requests
            assert request.line == "POST /a?b=c HTTP/1.1"
            assert request.headers["host"] == f"localhost:{receiver.port}"

    asyncio.run(work())

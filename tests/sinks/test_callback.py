import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry
from sinks.base import Surroundings
from sinks.callback import KIND, QUERY, CallbackSettings, CallbackSink, parse_url, query_url
from sinks.http.client import GuardedClient
from tests.sinks.receiver import EVENT, LOOPBACK, Receiver, Reply, answer, delivery, receiving


async def call(receiver: Receiver, count: int = 1, **settings: object) -> Sequence[Outcome]:
    checked = CallbackSettings.model_validate({"url": receiver.url, "timeout": 30, **settings})
    sink = CallbackSink(checked, GuardedClient(LOOPBACK, checked.timeout), ManualClock())
    try:
        return await sink.deliver([delivery(number) for number in range(1, count + 1)])
    finally:
        await sink.close()


def call_replying(reply: Reply, count: int = 1, **settings: object) -> tuple[Sequence[Outcome], Receiver]:
    async def work() -> tuple[Sequence[Outcome], Receiver]:
        async with receiving(reply) as receiver:
            return await call(receiver, count, **settings), receiver

    return asyncio.run(work())


def test_post_carries_the_events_bytes_and_what_tells_a_repeat() -> None:
    outcomes, receiver = call_replying(answer(200, b"ok"))
    assert outcomes == [Delivered("ok")]
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


def test_a_receiver_that_we_did_not_write_gets_the_same_bytes() -> None:
    taken: list[bytes] = []

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
            return await call(Receiver(port=runner.addresses[0][1]), count=3)
        finally:
            await runner.cleanup()

    assert asyncio.run(work()) == [Delivered("queued")] * 3
    assert taken == [EVENT] * 3


def test_get_carries_the_fields_as_query_parameters() -> None:
    outcomes, receiver = call_replying(answer(200), method="GET")
    assert outcomes == [Delivered("")]
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


def test_get_leaves_out_what_the_event_lacks_and_keeps_the_urls_own_query() -> None:
    event = b'{"id":"a","ver":2,"content":"{\\"x\\":1}","level":null}'
    found = query_url(parse_url("http://ops.test/hook?token=a%2Fb&id=1"), event)
    assert (
        str(found) == "http://ops.test/hook?token=a%2Fb&id=1&ver=2&id=a&level=null&content=%7B%22x%22%3A1%7D"
    )


@given(st.dictionaries(st.sampled_from(QUERY), st.text()))
def test_any_text_survives_the_query(fields: dict[str, str]) -> None:
    found = query_url(URL("http://ops.test/"), json.dumps(fields).encode())
    assert dict(parse_qsl(found.raw_query_string, keep_blank_values=True)) == fields


def test_outcomes_come_in_order_over_one_connection() -> None:
    turn = iter([200, 404, 503, 200])

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(next(turn), b"", "Retry-After: Tue, 14 Nov 2023 22:14:20 GMT"))

    outcomes, receiver = call_replying(reply, count=4)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Rejected, Retry, Delivered]
    assert outcomes[2] == Retry(Reason(ReasonCode.THROTTLED, "503 Service Unavailable", 503), 60.0)
    assert [request.headers["webhook-id"] for request in receiver.requests] == ["id1", "id2", "id3", "id4"]
    assert receiver.connections == 1


def test_headers_are_sent_and_looked_up_at_each_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer one\n")
    monkeypatch.setenv("TEAM", "ops")
    headers = {"Authorization": f"file:{token}", "X-Team": "env:TEAM", "User-Agent": "mine"}

    async def reply(writer: asyncio.StreamWriter) -> None:
        token.write_text("Bearer two\n")
        writer.write(answer(200))

    _, receiver = call_replying(reply, count=2, headers=headers)
    assert [one.headers["authorization"] for one in receiver.requests] == ["Bearer one", "Bearer two"]
    assert [(one.headers["x-team"], one.headers["user-agent"]) for one in receiver.requests] == [
        ("ops", "mine")
    ] * 2


def test_a_secret_that_the_receiver_repeats_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    outcomes, _ = call_replying(answer(401, b"bad token hunter2"), headers={"X-Token": "env:TOKEN"})
    assert outcomes == [Rejected(Reason(ReasonCode.REFUSED, "401 Unauthorized: bad token ***", 401))]


@pytest.mark.parametrize("value", [None, "", "a\nb", "a\r\nX-Evil: 1", "a\0"])
def test_a_secret_that_is_missing_or_cannot_be_sent(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    if value is not None:
        token.write_text(value)
    outcomes, receiver = call_replying(answer(200), headers={"X-Token": f"file:{token}"})
    (outcome,) = outcomes
    assert isinstance(outcome, Retry)
    assert outcome.reason.code is ReasonCode.MISCONFIGURED
    assert outcome.reason.detail.startswith(f"headers: file:{token}: ")
    assert receiver.connections == 0


def test_without_allow_networks_loopback_is_refused_for_good() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            surroundings = Surroundings(MemoryBus(), MemoryStore(), Path())
            sink = KIND.build(CallbackSettings(url=receiver.url), surroundings)
            (outcome,) = await sink.deliver([delivery()])
            await sink.close()
            assert isinstance(outcome, Rejected)
            assert outcome.reason.code is ReasonCode.FORBIDDEN
            assert "[delivery] allow_networks" in outcome.reason.detail
            assert receiver.connections == 0
            allowing = Surroundings(MemoryBus(), MemoryStore(), Path(), allow_networks=LOOPBACK)
            sink = KIND.build(CallbackSettings(url=receiver.url), allowing)
            assert await sink.deliver([delivery()]) == [Delivered("")]
            await sink.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ops.test/hook",
        "ftp://ops.test/",
        "file:///etc/passwd",
        "http://",
        "http:///hook",
        "http://user@ops.test/",
        "http://user:hunter2@ops.test/",
        "http://:hunter2@ops.test/",
        "http://ops.test:0/",
        "http://ops.test:99999/",
        "http://ops.test:x/",
        "http://ops.test/a b",
        "http://ops.test/\nX: 1",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://-ops.test/",
    ],
)
def test_a_url_that_cannot_be_called_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words differ
        parse_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("https://ops.test", "https://ops.test/"),
        ("HTTP://OPS.test:8080/a?b=c#d", "http://ops.test:8080/a?b=c"),
        ("http://[2606:4700::1111]:81/%2F", "http://[2606:4700::1111]:81/%2F"),
        ("http://пример.рф/", "http://xn--e1afmkfd.xn--p1ai/"),
        (
            "http://ops.test/%7Ea/é?sig=a%2Fb+c%3D&d={é}",
            "http://ops.test/%7Ea/%C3%A9?sig=a%2Fb+c%3D&d=%7B%C3%A9%7D",
        ),
    ],
)
def test_a_url_that_can_be_called(url: str, called: str) -> None:
    assert str(parse_url(url)) == called


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": "http://ops.test/", "method": "PUT"},
        {"url": "http://ops.test/", "timeout": 0},
        {"url": "http://ops.test/", "timeout": 61},
        {"url": "http://ops.test/", "headers": {"a b": "c"}},
        {"url": "http://ops.test/", "headers": {"": "c"}},
        {"url": "http://ops.test/", "headers": {"Webhook-Id": "c"}},
        {"url": "http://ops.test/", "headers": {"content-length": "0"}},
        {"url": "http://ops.test/", "headers": {"a": "b\r\nc: d"}},
        {"url": "http://ops.test/", "headers": {"a": ""}},
        {"url": "http://ops.test/", "more": 1},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CallbackSettings.model_validate(settings)


def test_settings_do_not_show_secrets() -> None:
    settings = CallbackSettings.model_validate(
        {"url": "http://ops.test/", "headers": {"a": "hunter2", "b": "env:TOKEN", "c": "file:/run/token"}}
    )
    for shown in (repr(settings), settings.model_dump_json()):
        assert "hunter2" not in shown
        assert "env:TOKEN" in shown
        assert "file:/run/token" in shown


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "Cookie", "X-Auth-Token", "X-Api-Key", "X-Auth"]
)
def test_a_secret_is_not_written_out(name: str) -> None:
    with pytest.raises(ValidationError, match="env:NAME or file:PATH") as refused:
        CallbackSettings.model_validate({"url": "http://ops.test/", "headers": {name: "hunter2"}})
    assert "hunter2" not in str(refused.value.errors(include_input=False))
    CallbackSettings.model_validate(
        {"url": "http://ops.test/", "headers": {name: "env:TOKEN", "X-Author": "me"}}
    )


@pytest.mark.parametrize(
    "reply", [answer(401, b"no such token: hunter2-hunter2"), b"hunter2-hunter2 Bearer\r\n\r\n"]
)
def test_the_token_of_a_secret_is_covered(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    monkeypatch.setenv("TOKEN", "Bearer hunter2-hunter2")
    outcomes, _ = call_replying(reply, headers={"Authorization": "env:TOKEN"})
    assert "hunter2" not in repr(outcomes)
    assert "***" in repr(outcomes)


def test_what_has_no_fields_is_not_called() -> None:
    async def work() -> Sequence[Outcome]:
        async with receiving(answer(200)) as receiver:
            checked = CallbackSettings.model_validate({"url": receiver.url, "method": "GET"})
            sink = CallbackSink(checked, GuardedClient(LOOPBACK, checked.timeout), ManualClock())
            try:
                deep = b'{"content":' + b"[" * 100_000
                return await sink.deliver(
                    [
                        msgspec.structs.replace(delivery(1), event=event)
                        for event in (b"junk", b'{"id":"\xff"}', deep)
                    ]
                )
            finally:
                await sink.close()

    outcomes = asyncio.run(work())
    assert [type(outcome) for outcome in outcomes] == [Rejected] * 3

"""Signatures of callbacks by Standard Webhooks."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.clock import ManualClock
from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Retry
from schemas.errors import InputError
from sinks.callback.signing import build_signer
from tests.sinks.callback.calling import call_replying, deliveries, sink_of
from tests.sinks.receiver import EVENT, Request, answer, delivery, receiving

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key()
SHORT = "whsk_" + base64.b64encode(b"k" * 32).decode()
LONG = "whsk_" + base64.b64encode(b"k" * 32 + PUBLIC.public_bytes_raw()).decode()
FORMATS = ["event", "cloudevents-binary", "cloudevents-structured", "cloudevents-batch"]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("OLD", OLD), ("NEW", NEW), ("SHORT", SHORT), ("LONG", LONG)):
        monkeypatch.setenv(name, key)


def verify(key: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Verifies a request as a receiver does. Raises WebhookVerificationError."""
    Webhook(key).verify(body, dict(headers))


def signed(**settings: Any) -> Request:
    outcomes, receiver = call_replying(answer(200), **settings)
    assert isinstance(outcomes[0], Delivered)
    return receiver.requests[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_receiver_with_the_reference_library_verifies_every_delivery(format: str) -> None:
    refused: list[Exception] = []

    async def hook(request: web.Request) -> web.Response:
        try:
            verify(OLD, await request.read(), request.headers)
            verify(NEW, await request.read(), request.headers)
        except WebhookVerificationError as error:
            refused.append(error)
            return web.Response(status=401)
        return web.Response(text="verified")

    async def work(hook: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> list[Outcome]:
        app = web.Application()
        app.router.add_post("/hook", hook)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        sink = sink_of(url, format=format, signing=["env:OLD", "env:SHORT", "env:NEW"])
        try:
            batches = [deliveries(count) for count in range(1, 21)]
            return [one for batch in batches for one in await sink.deliver(batch)]
        finally:
            await sink.close()
            await runner.cleanup()

    outcomes = asyncio.run(work(hook))
    assert refused == []
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 210


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_request_fails_verification(format: str) -> None:
    request = signed(format=format, signing=["env:OLD"])
    verify(OLD, request.body, request.headers)
    stamp = int(request.headers["webhook-timestamp"])
    signature = request.headers["webhook-signature"]
    flipped = base64.b64encode(bytes([base64.b64decode(signature[3:])[0] ^ 1])).decode()
    tampered: list[tuple[bytes, dict[str, str]]] = [
        (request.body + b" ", {}),
        (request.body.replace(b"CRITICAL", b"INFO"), {}),
        (b"", {}),
        (request.body, {"webhook-id": "id2"}),
        (request.body, {"webhook-timestamp": str(stamp + 1)}),
        (request.body, {"webhook-timestamp": str(stamp - 3600)}),
        (request.body, {"webhook-signature": "v1," + flipped}),
        (request.body, {"webhook-signature": signature.replace("v1,", "v2,")}),
    ]
    for body, headers in tampered:
        with pytest.raises(WebhookVerificationError):
            verify(OLD, body, request.headers | headers)
    with pytest.raises(WebhookVerificationError):
        verify(OTHER, request.body, request.headers)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        with pytest.raises(WebhookVerificationError):
            verify(OLD, request.body, {key: value for key, value in request.headers.items() if key != name})


def test_an_old_request_fails_verification() -> None:
    request = signed(signing=["env:OLD"], clock=ManualClock())
    assert request.headers["webhook-timestamp"] == "1700000000"
    with pytest.raises(WebhookVerificationError, match="too old"):
        verify(OLD, request.body, request.headers)


def test_the_signature_equals_the_published_example() -> None:
    """The example of the Standard Webhooks specification."""
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    assert build_signer(key)(content) == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("name", ["SHORT", "LONG"])
def test_an_ed25519_key_signs_v1a(name: str) -> None:
    request = signed(signing=[f"env:{name}"])
    version, _, signature = request.headers["webhook-signature"].partition(",")
    assert version == "v1a"
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    PUBLIC.verify(base64.b64decode(signature), head + EVENT)
    with pytest.raises(InvalidSignature):
        PUBLIC.verify(base64.b64decode(signature), head + EVENT + b" ")


def test_several_keys_sign_at_once() -> None:
    request = signed(signing=["env:OLD", "env:LONG", "env:NEW"])
    entries = request.headers["webhook-signature"].split(" ")
    assert [entry.partition(",")[0] for entry in entries] == ["v1", "v1a", "v1"]
    verify(OLD, request.body, request.headers)
    verify(NEW, request.body, request.headers)


def test_a_changed_key_signs_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> list[Request]:
        async with receiving(answer(200)) as receiver:
            clock = ManualClock()
            sink = sink_of(receiver.url, clock, signing=["env:OLD"])
            await sink.deliver([delivery()])
            monkeypatch.setenv("OLD", NEW)
            clock.advance(1)
            await sink.deliver([delivery()])
            await sink.close()
            return receiver.requests

    before, after = (request.headers["webhook-signature"] for request in asyncio.run(work()))
    content = b"id1.%d." + EVENT
    assert before.encode() == build_signer(OLD)(content % 1_700_000_000)
    assert after.encode() == build_signer(NEW)(content % 1_700_000_001)


def test_without_keys_nothing_is_signed() -> None:
    assert not {"webhook-timestamp", "webhook-signature"} & signed().headers.keys()


BAD = [
    ("", "must begin with whsec_ or whsk_"),
    ("hunter2-hunter2-hunter2-hunter2", "must begin with whsec_ or whsk_"),
    ("whpk_" + "A" * 44, "must begin with whsec_ or whsk_"),
    ("whsec_hunter2 hunter2!", "the text after whsec_ is not base64; copy the whole key"),
    ("whsec_é", "the text after whsec_ is not base64; copy the whole key"),
    ("whsec_", "has 0 bytes; it must have 24 to 64"),
    ("whsec_" + base64.b64encode(b"s" * 23).decode(), "has 23 bytes; it must have 24 to 64"),
    ("whsec_" + base64.b64encode(b"s" * 65).decode(), "has 65 bytes; it must have 24 to 64"),
    ("whsk_" + base64.b64encode(b"s" * 31).decode(), "has 31 bytes; it must have 32, or 64"),
    ("whsk_" + base64.b64encode(b"s" * 64).decode(), "is not that of the first 32"),
]


@pytest.mark.parametrize(("key", "problem"), BAD)
def test_an_invalid_key_is_reported_without_its_value(
    key: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        build_signer(key)
    assert key[6:] == "" or key[6:] not in str(refused.value)
    monkeypatch.setenv("BAD", key)
    (outcome,), receiver = call_replying(answer(200), signing=["env:OLD", "env:BAD"])
    assert outcome == Retry(Reason(ReasonCode.MISCONFIGURED, f"signing[2]: env:BAD: {refused.value}"))
    assert receiver.connections == 0


@given(st.binary(min_size=24, max_size=64), st.binary(max_size=50), st.booleans())
def test_any_secret_signs_as_the_reference_library_does(secret: bytes, body: bytes, padded: bool) -> None:
    text = json.dumps(body.hex())
    key = "whsec_" + base64.b64encode(secret).decode()
    expected = Webhook(key).sign("id", datetime.fromtimestamp(17, UTC), text)
    found = build_signer(key if padded else key.rstrip("="))(f"id.17.{text}".encode())
    assert found.decode() == expected

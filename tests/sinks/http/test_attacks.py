"""Attacks by URLs, name servers and redirects: each is refused with a reason."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.delivery import Delivered, Reason, ReasonCode, Rejected
from schemas.problems import problems
from sinks.base import SinkContext
from sinks.callback.settings import CallbackSettings
from sinks.callback.sink import KIND
from sinks.http.guard import Address
from sinks.http.response import Response
from tests.sinks.callback.calling import CONTEXT, call
from tests.sinks.http.asking import ask, client_of, finds, request, run
from tests.sinks.receiver import answer, delivery, receiving

CLOSED = SinkContext(bus=CONTEXT.bus, objects=CONTEXT.objects, logs=Path())
"""A context in which no private network is allowed."""


async def attempt(url: str) -> str:
    """Calls `url` without allowed networks; returns the reason of the refusal."""
    try:
        settings = CallbackSettings(url=url)
    except ValidationError as error:
        (told,) = problems(error, CallbackSettings)
        assert told.startswith("url: ")
        return told
    sink = KIND.build(settings, CLOSED)
    (outcome,) = await sink.deliver([delivery()])
    await sink.close()
    assert isinstance(outcome, Rejected)
    assert outcome.reason.code is ReasonCode.FORBIDDEN
    assert outcome.reason.address == ""
    return outcome.reason.detail


# Addresses that must not be reached, in every spelling.

LOOPBACK_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f000001",
    "0x7F.0.0.1",
    "0x7f.1",
    "127.0.0.1.",
    "127.0.0.01",
    "0",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%25eth0]",
    "[::ffff:0:127.0.0.1]",
    "localhost",
    "LOCALHOST",
    "localhost%2e",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.ops.test",
    "ops.test@127.0.0.1",
    "ops.test:80@127.0.0.1",
    "ops.test%40127.0.0.1",
    "ops.test\\@127.0.0.1",
    "127.0.0.1\\.ops.test",
    "127.0.0.1 ",
    "127.0.0.1\t",
    "127.0.0.1\r\nhost: ops.test",
    "127.0.0.1\u200b",
    "\u00ad127.0.0.1",
]


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
def test_loopback_is_refused_in_every_spelling(host: str) -> None:
    async def work() -> str:
        async with receiving(answer(200)) as receiver:
            told = await attempt(f"http://{host}:{receiver.port}/hook")
            assert receiver.connections == 0
            return told

    assert run(work())


SECRET_PLACES = [
    ("169.254.169.254", "metadata"),
    ("2852039166", "four decimal numbers"),
    ("0xa9fea9fe", "four decimal numbers"),
    ("0251.0376.0251.0376", "four decimal numbers"),
    ("169.254.43518", "four decimal numbers"),
    ("[::ffff:169.254.169.254]", "metadata"),
    ("[::ffff:a9fe:a9fe]", "metadata"),
    ("[::169.254.169.254]", "reserved"),
    ("[64:ff9b::169.254.169.254]", "metadata"),
    ("[2002:a9fe:a9fe::1]", "metadata"),
    ("[fd00:ec2::254]", "metadata"),
    ("[FD00:0EC2:0:0::254]", "metadata"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("⑯⑨。②⑤④。⑯⑨。②⑤④", "metadata"),
    ("10.0.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.0.1", "private"),
    ("[fc00::1]", "private"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("169.254.7.7", "link-local"),
    ("[fe80::1]", "link-local"),
    ("[fec0::1]", "site-local"),
    ("[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "Teredo"),
    ("224.0.0.251", "multicast"),
    ("[ff02::1]", "multicast"),
    ("255.255.255.255", "reserved"),
]


@pytest.mark.parametrize(("host", "said"), SECRET_PLACES)
def test_metadata_and_private_addresses_are_refused(host: str, said: str) -> None:
    assert said in run(attempt(f"http://{host}/latest/meta-data/"))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/_MAIL",
        "ftp://127.0.0.1/",
        "unix:///run/docker.sock",
        "http+unix://%2frun%2fdocker.sock/",
        "data:text/plain,a",
        "//127.0.0.1/",
        "http:127.0.0.1/",
        "http:///127.0.0.1/",
        "https://[127.0.0.1]/",
        "javascript:alert(1)",
    ],
)
def test_urls_of_other_schemes_are_refused(url: str) -> None:
    assert run(attempt(url)).startswith("url: ")


# Names.


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:192.168.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001::1",
        "fe80::1",
        "0.0.0.0",
    ],
)
def test_a_name_that_resolves_to_a_refused_address_is_refused(address: str) -> None:
    found = run(ask("http://ops.test/", allowed=(), lookup=finds(address, "127.0.0.1")))
    assert isinstance(found, Reason)
    assert found.code is ReasonCode.FORBIDDEN
    assert found.detail.startswith(f"ops.test resolves to {ip_address(address)}, a ")
    assert found.detail.endswith("[delivery] allow_networks must name its network to permit it")


def test_of_several_addresses_only_the_allowed_one_is_connected_to() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            url = f"http://ops.test:{receiver.port}/"
            only = [ip_network("127.0.0.1/32")]
            found = finds("10.255.255.1", "127.0.0.2", "::1", "127.0.0.1", "169.254.169.254")
            assert await ask(url, allowed=only, lookup=found) == Response(
                200, b"", {"content-length": "0"}, f"127.0.0.1:{receiver.port}"
            )

    run(work())


def test_a_name_that_changes_between_check_and_connection_changes_nothing() -> None:
    """The system cannot resolve `rebind.test`, so a response proves that the name was not looked up again."""
    answers = [[ip_address("127.0.0.1")], [ip_address("127.0.0.2")]]
    asked: list[str] = []

    def rebinding(host: str) -> Sequence[Address]:
        asked.append(host)
        return answers[len(asked) - 1]

    async def work() -> None:
        async with receiving(answer(200, b"", "Connection: close")) as receiver:
            url = f"http://rebind.test:{receiver.port}/"
            client = client_of(url, [ip_network("127.0.0.1/32")], lookup=rebinding)
            assert (await client.send(request())).status == 200
            assert asked == ["rebind.test"]
            refused = await client.send(request())
            await client.close()
            assert isinstance(refused, Reason)
            assert refused.code is ReasonCode.FORBIDDEN
            assert receiver.connections == 1

    run(work())


# Detours.


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_redirects_are_rejected_and_not_followed(status: int) -> None:
    async def work() -> None:
        async with receiving(answer(200)) as other:
            for where in (other.url, "file:///etc/passwd", f"//127.0.0.1:{other.port}/", "/elsewhere"):
                page = f'<meta http-equiv="refresh" content="0;url={other.url}">'.encode()
                reply = answer(status, page, f"Location: {where}", f"Refresh: 0;url={where}")
                async with receiving(reply) as receiver:
                    (outcome,) = await call(receiver.url, [delivery()])
                    assert isinstance(outcome, Rejected)
                    assert outcome.reason.code is ReasonCode.REFUSED
                    assert outcome.reason.detail.endswith("redirects are not followed: name the final URL")
                    assert len(receiver.requests) == 1
            assert other.connections == 0

    run(work())


def test_a_refresh_header_is_not_followed() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as other:
            page = f'<meta http-equiv="refresh" content="0;url={other.url}">'.encode()
            async with receiving(answer(200, page, f"Refresh: 0;url={other.url}")) as receiver:
                (outcome,) = await call(receiver.url, [delivery()])
                assert isinstance(outcome, Delivered)
            assert other.connections == 0

    run(work())


def test_the_environments_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver, receiving(answer(502)) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.setenv(name, "")
            assert (await ask(receiver.url)).status == 200
            assert proxy.connections == 0
            monkeypatch.setenv("NO_PROXY", "*")
            assert "loopback" in await attempt(receiver.url)

    run(work())


def test_cookies_are_not_kept() -> None:
    async def work() -> None:
        async with receiving(answer(200, b"", "Set-Cookie: a=b")) as receiver:
            for _ in range(2):
                await call(receiver.url, [delivery(1), delivery(2)])
            assert all("cookie" not in one.headers for one in receiver.requests)

    run(work())

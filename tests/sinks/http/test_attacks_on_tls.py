"""Receivers whose TLS must not be trusted."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from schemas.delivery import Reason, ReasonCode
from sinks.http.tls import TlsSettings
from tests.sinks.http.asking import ask, finds, listening, run
from tests.sinks.receiver import LOOPBACK, answer, receiving

CA = trustme.CA()
PAST = datetime(2020, 1, 1, tzinfo=UTC)


def context_of(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (context_of(CA.issue_cert("ops.test", not_after=PAST)), "TLS: certificate has expired"),
        (
            context_of(CA.issue_cert("other.test")),
            "TLS: Hostname mismatch, certificate is not valid for 'ops.test'.",
        ),
        (context_of(CA.issue_cert("*.test.ops.test")), "TLS: Hostname mismatch"),
        (context_of(trustme.CA().issue_cert("ops.test")), "TLS: unable to get local issuer certificate"),
    ],
)
def test_an_invalid_certificate_is_refused(context: ssl.SSLContext, said: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(ca))

    async def work() -> None:
        async with receiving(answer(200), context) as receiver:
            url = f"https://ops.test:{receiver.port}/"
            found = await ask(url, lookup=finds("127.0.0.1"), tls=TlsSettings(ca=ca))
            assert isinstance(found, Reason)
            assert found.code is ReasonCode.UNREACHABLE
            assert found.detail.startswith(said)
            assert found.address == f"127.0.0.1:{receiver.port}"
            assert receiver.requests == []

    run(work())


def test_an_unknown_authority_is_refused() -> None:
    async def work() -> None:
        async with receiving(answer(200), context_of(CA.issue_cert("127.0.0.1"))) as receiver:
            found = await ask(f"https://127.0.0.1:{receiver.port}/")
            assert isinstance(found, Reason)
            assert found.detail == "TLS: unable to get local issuer certificate"

    run(work())


def test_a_receiver_with_old_tls_is_refused(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(ca))
    old = context_of(CA.issue_cert("127.0.0.1"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def work() -> None:
        async with receiving(answer(200), old) as receiver:
            found = await ask(f"https://127.0.0.1:{receiver.port}/", tls=TlsSettings(ca=ca))
            assert isinstance(found, Reason)
            assert found.code is ReasonCode.UNREACHABLE
            assert receiver.requests == []

    run(work())


def test_plain_text_behind_https_is_a_failure() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b"plain"))
        await reader.read()
        writer.close()

    async def work() -> None:
        async with listening(plain) as port:
            found = await ask(f"https://127.0.0.1:{port}/")
            assert isinstance(found, Reason)
            assert found.code is ReasonCode.UNREACHABLE
            assert found.detail.startswith("TLS: ")
            assert found.address == f"127.0.0.1:{port}"

    run(work())


def test_a_handshake_that_hangs_ends_with_the_time_limit() -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            port = deaf.getsockname()[1]
            found = await ask(f"https://127.0.0.1:{port}/", limit=0.5)
            assert found == Reason(ReasonCode.TIMED_OUT, "no TLS within 0.5 s", address=f"127.0.0.1:{port}")

    run(work())


def test_tls_behind_http_is_a_failure() -> None:
    async def work() -> None:
        async with receiving(answer(200), context_of(CA.issue_cert("127.0.0.1"))) as receiver:
            found = await ask(f"http://127.0.0.1:{receiver.port}/", LOOPBACK)
            assert isinstance(found, Reason)
            assert found.code in {ReasonCode.RECEIVER_FAILED, ReasonCode.UNREACHABLE}
            assert found.address
            assert receiver.requests == []

    run(work())

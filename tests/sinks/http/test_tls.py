"""TLS settings against a receiver."""

import asyncio
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from schemas.delivery import Reason, ReasonCode
from schemas.errors import InputError
from sinks.http.response import Response
from sinks.http.tls import Tls, TlsSettings
from tests.sinks.http.asking import ask, client_of, finds, request, run
from tests.sinks.receiver import answer, receiving

CA = trustme.CA()
SERVER = CA.issue_cert("ops.test", "127.0.0.1")
CLIENT = CA.issue_cert("heliograph.test")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return path


def server_context(*, wants_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    if wants_client:
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def written(folder: Path, cert: trustme.LeafCert, password: bytes | None = None) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(cert.private_key_pem.bytes(), None)
    hidden = form.NoEncryption() if password is None else form.BestAvailableEncryption(password)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden)
    certificate, key_file = folder / "own.pem", folder / "own.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    key_file.write_bytes(pem)
    return certificate, key_file


def locked(ca: Path, certificate: Path, key: Path, password: str) -> TlsSettings:
    return TlsSettings.model_validate(
        {"ca": str(ca), "certificate": str(certificate), "key": str(key), "key_password": password}
    )


def replace(path: Path, content: bytes) -> bytes:
    before = path.read_bytes()
    path.write_bytes(content)
    return before


async def call(files: TlsSettings, context: ssl.SSLContext, host: str = "ops.test") -> Response | Reason:
    async with receiving(answer(200), context) as receiver:
        return await ask(f"https://{host}:{receiver.port}/", lookup=finds("127.0.0.1"), tls=files)


@pytest.mark.parametrize("host", ["ops.test", "OPS.test", "ops.test.", "127.0.0.1"])
def test_a_receiver_with_a_private_authority_is_trusted(ca: Path, host: str) -> None:
    found = run(call(TlsSettings(ca=ca), server_context(), host))
    assert isinstance(found, Response)
    assert found.address.startswith("127.0.0.1:")


def test_a_client_certificate_is_sent(ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = written(tmp_path, CLIENT)
    files = TlsSettings(ca=ca, certificate=certificate, key=key)
    assert isinstance(run(call(files, server_context(wants_client=True))), Response)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert isinstance(
        run(call(TlsSettings(ca=ca, certificate=both), server_context(wants_client=True))), Response
    )
    monkeypatch.setenv("KEY_PASSWORD", "hunter2")
    written(tmp_path, CLIENT, b"hunter2")
    files = locked(ca, certificate, key, "env:KEY_PASSWORD")
    assert isinstance(run(call(files, server_context(wants_client=True))), Response)


def test_a_missing_or_foreign_client_certificate_fails(ca: Path, tmp_path: Path) -> None:
    foreign = written(tmp_path, trustme.CA().issue_cert("evil.test"))
    for files in (TlsSettings(ca=ca), TlsSettings(ca=ca, certificate=foreign[0], key=foreign[1])):
        found = run(call(files, server_context(wants_client=True)))
        assert isinstance(found, Reason)
        assert found.code is ReasonCode.UNREACHABLE
        assert found.address.startswith("127.0.0.1:")


def test_tls_below_1_2_is_refused_and_names_are_verified(ca: Path) -> None:
    context = Tls(TlsSettings(ca=ca)).read_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    for one in (Tls(TlsSettings()), Tls(TlsSettings())):
        assert one.read_context() is Tls(TlsSettings()).read_context()
        assert one.read_context().minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_change_are_read_again_by_the_next_connection(ca: Path) -> None:
    async def work() -> Sequence[Response | Reason]:
        async with receiving(answer(200, b"", "Connection: close"), server_context()) as receiver:
            client = client_of(
                f"https://ops.test:{receiver.port}/", lookup=finds("127.0.0.1"), tls=TlsSettings(ca=ca)
            )
            before = await client.send(request())
            good = replace(ca, trustme.CA().cert_pem.bytes())
            other = await client.send(request())
            replace(ca, good)
            after = await client.send(request())
            await client.close()
            return before, other, after

    before, other, after = run(work())
    assert isinstance(before, Response)
    assert isinstance(other, Reason)
    assert other.detail == "TLS: unable to get local issuer certificate"
    assert isinstance(after, Response)


def test_unchanged_files_are_read_once(ca: Path) -> None:
    tls = Tls(TlsSettings(ca=ca))
    before = tls.read_context()
    assert tls.read_context() is before
    os.utime(ca, ns=(1, 1))
    assert tls.read_context() is not before


def test_unusable_files_are_named(ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_PASSWORD", "wrong-wrong")
    certificate, key = written(tmp_path, CLIENT, b"hunter2")
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("hunter2")
    for files, problem in (
        (TlsSettings(ca=missing), f"tls.ca: {missing}: No such file or directory"),
        (TlsSettings(ca=junk), f"tls.ca: {junk} holds no certificates in PEM; name a file that does"),
        (TlsSettings(ca=ca, certificate=missing), f"tls.certificate: {missing}: No such file or directory"),
        (
            TlsSettings(ca=ca, certificate=certificate, key=missing),
            f"tls.key: {missing}: No such file or directory",
        ),
        (TlsSettings(ca=ca, certificate=junk), "tls.certificate: certificate and key are not PEM"),
        (TlsSettings(ca=ca, certificate=certificate, key=key), "tls.key_password does not open the key"),
        (
            locked(ca, certificate, key, "env:KEY_PASSWORD"),
            "tls.key_password does not open the key",
        ),
        (
            locked(ca, certificate, key, "env:NOT_SET"),
            "tls.key_password: env:NOT_SET: ",
        ),
    ):
        with pytest.raises(InputError) as refused:
            Tls(files).read_context()
        assert problem in str(refused.value)
        assert "hunter2" not in str(refused.value)
        found = asyncio.run(ask("https://127.0.0.1:9/", tls=files))
        assert isinstance(found, Reason)
        assert found.code is ReasonCode.MISCONFIGURED

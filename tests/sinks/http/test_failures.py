"""Reasons of failed connections."""

import errno
import socket
import ssl

import pytest

from schemas.delivery import Reason, ReasonCode
from schemas.errors import InputError
from sinks.http.failures import RAISED, describe_failure
from sinks.http.names import Forbidden

PEER = "192.0.2.7:443"


@pytest.mark.parametrize(
    ("error", "address", "reason"),
    [
        (Forbidden("no"), "", Reason(ReasonCode.FORBIDDEN, "no")),
        (InputError("tls.ca: gone"), "", Reason(ReasonCode.MISCONFIGURED, "tls.ca: gone")),
        (TimeoutError(), "", Reason(ReasonCode.TIMED_OUT, "no connection within 5 s")),
        (
            socket.gaierror(socket.EAI_NONAME, "unknown"),
            "",
            Reason(ReasonCode.UNREACHABLE, "the host has no address: unknown"),
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.7', 443)"),
            "",
            Reason(ReasonCode.UNREACHABLE, "no connection: Connection refused"),
        ),
        (
            ConnectionResetError(errno.ECONNRESET, "x"),
            PEER,
            Reason(ReasonCode.UNREACHABLE, "the connection failed: Connection reset by peer", 0, PEER),
        ),
        (
            ConnectionResetError(),
            PEER,
            Reason(ReasonCode.UNREACHABLE, "the connection failed: ConnectionResetError", 0, PEER),
        ),
        (ssl.SSLError(1, "odd\nwords"), PEER, Reason(ReasonCode.UNREACHABLE, "TLS: odd words", 0, PEER)),
    ],
)
def test_each_exception_has_its_reason(error: Exception, address: str, reason: Reason) -> None:
    assert isinstance(error, RAISED)
    assert describe_failure(error, address, 5.0) == reason

"""Failures on the way to a response: their reason codes and their texts, in one table."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple

from schemas.delivery import Reason, ReasonCode
from schemas.errors import InputError
from sinks.http.lines import one_line
from sinks.http.names import Forbidden


class _Failure(NamedTuple):
    kind: type[Exception]
    code: ReasonCode
    words: str


_FAILURES = (
    _Failure(Forbidden, ReasonCode.FORBIDDEN, "{cause}"),
    _Failure(InputError, ReasonCode.MISCONFIGURED, "{cause}"),
    _Failure(TimeoutError, ReasonCode.TIMED_OUT, "no {stage} within {timeout:g} s"),
    _Failure(socket.gaierror, ReasonCode.UNREACHABLE, "the host has no address: {cause}"),
    _Failure(ssl.SSLError, ReasonCode.UNREACHABLE, "TLS: {cause}"),
    _Failure(OSError, ReasonCode.UNREACHABLE, "{link}: {cause}"),
)
"""The first entry that fits applies."""
RAISED = tuple(failure.kind for failure in _FAILURES)
"""Exceptions that connecting may raise."""


def describe_failure(error: Exception, address: str, timeout: float) -> Reason:
    """Returns the reason why there is no response. `address`: the other end, empty if nothing was connected; `timeout`:
    seconds that a request may take."""
    failure = next(failure for failure in _FAILURES if isinstance(error, failure.kind))
    link, stage = ("the connection failed", "TLS") if address else ("no connection", "connection")
    words = failure.words.format(cause=_cause(error), timeout=timeout, link=link, stage=stage)
    return Reason(failure.code, one_line(words.encode()), address=address)


def _cause(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case ssl.SSLError(reason=str(text)):
            return text.replace("_", " ").lower()
        case ssl.SSLError(strerror=str(text)) | socket.gaierror(strerror=str(text)):
            return text
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__

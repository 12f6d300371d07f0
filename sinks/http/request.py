"""HTTP/1.1 requests (RFC 9112): their parts, and their encoding, most of which is done once for a receiver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

BODY_KEPT = 500
"""Bytes of a response's body that its request gets unless it asks for more: enough for a receipt or an error."""
FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say where a message ends or where it goes. Only the encoder sets them, so that no setting and no event
can smuggle in a second request."""
_DEFAULTS = {"user-agent": "heliograph", "accept": "*/*", "accept-encoding": "identity"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\ud7ff\ue000-\U0010ffff]+")
_TARGET = re.compile(r"[!-~]+")
_NO_HEADERS: Mapping[str, str] = {}


class RequestHead(NamedTuple):
    """Method, URL and headers that many requests share, encoded once by `build_head`."""

    method: str
    request_line: bytes
    headers: bytes

    def __repr__(self) -> str:
        """Leaves the headers out: they may hold secrets."""
        return f"RequestHead(method={self.method!r})"

    def with_target_of(self, url: URL) -> RequestHead:
        """Returns this head with the path and query of another URL of the same origin."""
        return self._replace(request_line=_encode_request_line(self.method, url))


class Request(NamedTuple):
    """One request. `headers`: further headers besides those of the head; `body_kept`: bytes of the response's body that
    are returned."""

    head: RequestHead
    headers: Mapping[str, str] = _NO_HEADERS
    body: bytes = b""
    body_kept: int = BODY_KEPT

    def encode(self) -> bytes:
        """Returns the bytes of the request. Raises ValueError for a header that HTTP does not allow."""
        method, line, shared = self.head
        headers, body = encode_headers(self.headers), self.body
        if not body and method in {"GET", "HEAD"}:
            return b"%b%b%b\r\n" % (line, shared, headers)
        return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (line, shared, headers, len(body), body)


def build_head(method: str, url: URL, headers: Mapping[str, str] = _NO_HEADERS) -> RequestHead:
    """Encodes a head.

    The request carries only the host, path and query of the URL, since the client connects to its own origin.
    `user-agent`, `accept` and `accept-encoding: identity` are added where `headers` has none of that name. Raises
    ValueError for a method, a header name or a value that HTTP does not allow, and for a header of FRAMING.
    """
    if not _NAME.fullmatch(method):
        raise ValueError(f"{method!r} is not an HTTP method")
    host = url.host_subcomponent if url.is_default_port() else f"{url.host_subcomponent}:{url.port}"
    lower = {name.lower(): value for name, value in headers.items()}
    encoded = f"host: {host}\r\n".encode() + encode_headers(_DEFAULTS | lower)
    return RequestHead(method, _encode_request_line(method, url), encoded)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Returns headers as the lines of a head. Raises ValueError for a name or value that HTTP does not allow."""
    _check_names(tuple(headers))
    for name, value in headers.items():
        if not (value and value.isascii() and value.isprintable()):
            check_header_value(name, value)
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


def is_header_name(name: str) -> bool:
    """True if HTTP allows the name for a header."""
    return _NAME.fullmatch(name) is not None


def check_header_value(name: str, value: str) -> None:
    """Raises ValueError, without the value, if it cannot be the value of a header."""
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} is empty, or has a line break or another control character")


@lru_cache(maxsize=256)
def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not is_header_name(name) or name.lower() in FRAMING:
            raise ValueError(f"{name!r} is not a header that a request may set")


def _encode_request_line(method: str, url: URL) -> bytes:
    target = url.raw_path_qs
    if not _TARGET.fullmatch(target):
        raise ValueError("the URL's path and query hold white space or characters that are not escaped")
    return f"{method} {target} HTTP/1.1\r\n".encode()

"""URLs of receivers: their checks, and the parts that a connection needs."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit

from yarl import URL

from sinks.http.guard import parse_address

_AS_WRITTEN = "/%:@!$&'()*+,;=?-._~[]"


class Origin(NamedTuple):
    """The destination of connections. `host`: an address or a name as in a URL, without brackets; `tls`: True for https."""

    host: str
    port: int
    tls: bool


def find_origin(url: URL) -> Origin:
    """Returns the origin of a URL from `parse_url`."""
    return Origin(url.raw_host or "", url.port or 0, url.scheme == "https")


def parse_url(text: str) -> URL:
    """Parses the URL of a receiver. Path and query keep the escapes they were written with: receivers may have signed
    them.

    Raises ValueError, without the URL in its text: it may hold a secret.
    """
    if not text.isprintable() or " " in text:
        raise ValueError("has white space or characters that cannot be printed; escape them with %")
    url = URL(text)
    if url.scheme not in {"http", "https"}:
        raise ValueError("must begin with http:// or https://")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("must not hold a user or password; use the setting `basic`")
    if url.raw_host is None or url.host_subcomponent is None:
        raise ValueError("names no host; write it as in https://ops.example.com/hook")
    if not url.port:
        raise ValueError("port 0 cannot be called; name the port of the receiver")
    parse_address(url.raw_host)
    parts = urlsplit(text)
    return URL.build(
        scheme=url.scheme,
        host=url.host_subcomponent,
        port=url.explicit_port,
        path=quote(parts.path or "/", safe=_AS_WRITTEN),
        query_string=quote(parts.query, safe=_AS_WRITTEN),
        encoded=True,
    )

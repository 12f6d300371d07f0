"""HTTP/1.1 responses (RFC 9112), read off a connection within limits. Does no I/O.

The parser is llhttp in its strict form. Bytes after the end of a response never count as another response: they only
end the use of the connection.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sinks.http.request import BODY_KEPT

HEAD_LIMIT = 64 * 1024
"""Bytes before a response's body, those of interim responses (1xx) included."""
BODY_READ = 64 * 1024
"""Bytes of a body that are read, though fewer are kept, so that the connection can be used again; after that it is
closed. The framing of chunks and trailers may take as much as a head: they have no limits of their own."""


class Response(msgspec.Struct, frozen=True):
    """The response of a receiver. `body`: as much from its beginning as the request asked for, less if it ended early;
    `headers`: by name in lower case, the last of several with the same name; `address`: as in `Reason`."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    address: str = ""


class ResponseReader:
    """Reads one response after each `begin`, fed in pieces. The methods `on_…` are the parser's.

    `status`: 0 until the response's head has arrived; `ended`: True when reading has finished, since the response
    ended, a limit was reached, or the bytes are not HTTP, which `problem` then describes; `reusable`: True if the
    connection can carry further requests.
    """

    status: int
    ended: bool
    reusable: bool
    problem: str

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self, body_kept: int = BODY_KEPT) -> None:
        """Prepares to read the next response; `body_kept` bytes of its body will be kept."""
        self.status = 0
        self.ended = self.reusable = False
        self.problem = ""
        self._fed = self._read = 0
        self._interim = False
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._room = body_kept
        self._body_read = max(BODY_READ, body_kept)

    def feed(self, data: bytes) -> bool:
        """Parses the next bytes; returns True if reading has finished."""
        room = HEAD_LIMIT - self._fed
        self._fed += len(data)
        if not self.status:
            self._parse(data[:room])
            data = data[room:]
            if not data:
                return self.ended
            if not (self.status or self.ended):
                self._end_with(f"its head has more than {HEAD_LIMIT // 1024} KiB")
        if self.ended:
            self.reusable = False
        else:
            self._parse(data)
        return self.ended

    def response(self, address: str) -> Response:
        """Returns the part of the response that has arrived, once it has a status. `address`: the connection's other
        end."""
        return Response(self.status, b"".join(self._body), self._headers, address)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header; trailers are ignored."""
        if not self.status:
            self._headers[str(name.lower(), "latin-1")] = str(value, "utf-8", "replace")

    def on_headers_complete(self) -> None:
        """Stores the status, unless it is that of an interim response."""
        if self.status:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            self._headers = {}
        else:
            self.status = status

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body, up to the limit."""
        if self.ended:
            return
        if self._room > 0:
            self._body.append(body[: self._room])
            self._room -= len(body)
        self._read += len(body)

    def on_message_begin(self) -> None:
        """Marks the connection as not reusable until the message has ended: after a response nothing may follow."""
        self.reusable = False

    def on_message_complete(self) -> None:
        """Ends the response, unless it is an interim one."""
        if not self._interim and not self.ended:
            self.ended = True
            self.reusable = self._parser.should_keep_alive()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._end_with("it changes to another protocol")
        except HttpParserError as error:
            self._end_with(str(error))
        if self.status and (self._read > self._body_read or self._fed > HEAD_LIMIT + self._body_read):
            self.ended = True

    def _end_with(self, problem: str) -> None:
        self.ended = True
        self.reusable = False
        self.problem = problem

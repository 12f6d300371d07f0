"""Reading answers of HTTP/1.1 (RFC 9112) off a connection, each within limits. Does no I/O.

The parser is llhttp in its strict form. Nothing that comes after an answer's end is ever taken for another answer: it
only makes the connection one that cannot be used again.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sinks.http.outcomes import Answer

HEAD_LIMIT = 64 * 1024
"""Bytes before an answer's body, those of interim answers (1xx) included."""
KEPT = 500
"""Bytes of an answer's body that are kept."""
READ = 64 * 1024
"""Bytes of an answer's body that are read so that the connection can be used again; beyond, it is closed. What frames
the body may be as much as a head: the parts of chunks have no limit of their own, and trailers none either."""


class AnswerReader:
    """One answer after `begin`, fed in pieces. The methods `on_…` are the parser's.

    `status`: 0 until the answer's head is there; `ended`: nothing more is to be read, because the answer's end or a
    limit was reached, or what came is not HTTP, of which `problem` tells; `reusable`: whether the connection then
    carries further ones.
    """

    status: int
    ended: bool
    reusable: bool
    problem: str

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.status = 0
        self.ended = self.reusable = False
        self.problem = ""
        self._fed = self._read = 0
        self._interim = False
        self._headers: dict[bytes, str] = {}
        self._beginning = b""

    def feed(self, data: bytes) -> bool:
        """Read on; whether that was all."""
        room = HEAD_LIMIT - self._fed
        self._fed += len(data)
        if not self.status:
            self._parse(data[:room])
            data = data[room:]
            if not data:
                return self.ended
            if not (self.status or self.ended):
                self._spoilt(f"its head has more than {HEAD_LIMIT // 1024} KiB")
        if self.ended:
            self.reusable = False
        else:
            self._parse(data)
        return self.ended

    def answer(self, address: str) -> Answer:
        """What has come of an answer that has a status. `address`: what the connection goes to."""
        headers = self._headers
        return Answer(
            self.status,
            self._beginning,
            headers.get(b"retry-after"),
            headers.get(b"webhook-delivery"),
            address,
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which says nothing to us."""
        if not self.status and name.lower() in {b"retry-after", b"webhook-delivery"}:
            self._headers[name.lower()] = value.decode(errors="replace")

    def on_headers_complete(self) -> None:
        """The status of an interim answer is not the one that is waited for."""
        if self.status:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            self._headers = {}
        else:
            self.status = status

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.ended:
            return
        if len(self._beginning) < KEPT:
            self._beginning += body[: KEPT - len(self._beginning)]
        self._read += len(body)

    def on_message_begin(self) -> None:
        """An answer, or after its end what nobody asked for."""
        self.reusable = False

    def on_message_complete(self) -> None:
        """The end, of an interim answer too."""
        if not self._interim and not self.ended:
            self.ended = True
            self.reusable = self._parser.should_keep_alive()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._spoilt("it changes to another protocol")
        except HttpParserError as error:
            self._spoilt(str(error))
        if self.status and (self._read > READ or self._fed > HEAD_LIMIT + READ):
            self.ended = True

    def _spoilt(self, problem: str) -> None:
        self.ended = True
        self.reusable = False
        self.problem = problem

"""A proxy in front of an S3 server that lies on command, and a server that records what it is asked."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HANG_SECONDS = 4.0
_NOT_PASSED_ON = {"connection", "transfer-encoding", "keep-alive"}


class Lie(Enum):
    """What happens to one request."""

    FAIL_BEFORE = auto()
    """500, and nothing is done."""
    FAIL_AFTER = auto()
    """Done, and answered with 500."""
    CUT_AFTER = auto()
    """Done, and the connection broken off."""
    CUT_BEFORE = auto()
    """The connection is broken off, and nothing is done."""
    HANG_BEFORE = auto()
    """No answer for HANG_SECONDS, and nothing is done."""
    HANG_AFTER = auto()
    """Done, and no answer for HANG_SECONDS."""
    CONFLICT = auto()
    """409 ConditionalRequestConflict."""
    SLOW_DOWN = auto()
    """503 SlowDown."""
    SKEW = auto()
    """403 RequestTimeTooSkewed."""
    REGION = auto()
    """301 PermanentRedirect."""
    HALF = auto()
    """Half of the answer's body, then the connection is broken off."""


_ANSWERS: dict[Lie, tuple[int, str]] = {
    Lie.FAIL_BEFORE: (500, "InternalError"),
    Lie.FAIL_AFTER: (500, "InternalError"),
    Lie.CONFLICT: (409, "ConditionalRequestConflict"),
    Lie.SLOW_DOWN: (503, "SlowDown"),
    Lie.SKEW: (403, "RequestTimeTooSkewed"),
    Lie.REGION: (301, "PermanentRedirect"),
}


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


Wanted = Callable[[Asked], bool]


@dataclass
class Proxy:
    """Tells lies, in order, to the requests that `wanted` accepts; passes on the others. While `down`, cuts all."""

    endpoint: str
    asked: list[Asked] = field(default_factory=list[Asked])
    lies: list[Lie] = field(default_factory=list[Lie])
    wanted: Wanted = lambda asked: asked.method == "PUT"
    down: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lie_to(self, asked: Asked) -> Lie | None:
        with self.lock:
            self.asked.append(asked)
            if self.down:
                return Lie.CUT_BEFORE
            return self.lies.pop(0) if self.lies and self.wanted(asked) else None

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)


@contextmanager
def lying(upstream: str) -> Generator[Proxy]:
    """A proxy in front of the server at `http://host:port`."""
    proxy = Proxy("")

    class Handler(_Handler):
        def respond(self, asked: Asked) -> None:
            lie = proxy.lie_to(asked)
            if lie in {Lie.HANG_BEFORE, Lie.CUT_BEFORE}:
                self.hang_or_cut(lie)
            elif lie in _ANSWERS and lie is not Lie.FAIL_AFTER:
                self.answer(error_of(lie))
            else:
                answer = pass_on(upstream, asked)
                if lie is Lie.FAIL_AFTER:
                    self.answer(error_of(lie))
                elif lie in {Lie.CUT_AFTER, Lie.HANG_AFTER}:
                    self.hang_or_cut(lie)
                else:
                    self.answer(answer, half=lie is Lie.HALF)

    with _serving(Handler) as endpoint:
        proxy.endpoint = endpoint
        yield proxy


@contextmanager
def recording(respond: Callable[[Asked], Answer]) -> Generator[tuple[str, list[Asked]]]:
    """A server that answers as told; yields its endpoint and what it was asked."""
    seen: list[Asked] = []

    class Handler(_Handler):
        def respond(self, asked: Asked) -> None:
            seen.append(asked)
            self.answer(respond(asked))

    with _serving(Handler) as endpoint:
        yield endpoint, seen


def error_of(lie: Lie) -> Answer:
    """An error as S3 words it."""
    status, code = _ANSWERS[lie]
    body = f"<Error><Code>{code}</Code><Message>a lie</Message></Error>".encode()
    return Answer(status, {"Content-Type": "application/xml"}, body)


def pass_on(upstream: str, asked: Asked) -> Answer:
    """Ask the real server, with the very headers that were signed."""
    connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)
    try:
        connection.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
        for name, value in asked.headers.items():
            if name.lower() not in {"expect", "connection"}:
                connection.putheader(name, value)
        connection.endheaders(asked.body or None)
        response = connection.getresponse()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _NOT_PASSED_ON}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self, asked: Asked) -> None:
        raise NotImplementedError

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.respond(Asked(self.command, self.path, dict(self.headers.items()), body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _take  # noqa: N815 - names that the library looks for

    def answer(self, answer: Answer, *, half: bool = False) -> None:
        self.send_response_only(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
        self.close_connection = self.close_connection or half

    def hang_or_cut(self, lie: Lie) -> None:
        if lie in {Lie.HANG_BEFORE, Lie.HANG_AFTER}:
            time.sleep(HANG_SECONDS)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def _serving(handler: type[_Handler]) -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A proxy in front of an S3 server that fails requests on command, and a server that records its requests."""

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


class Fault(Enum):
    """The faults of a request."""

    FAIL_BEFORE = auto()
    """The answer is 500; the request is not passed on."""
    FAIL_AFTER = auto()
    """The request is done; the answer is 500."""
    CUT_AFTER = auto()
    """The request is done; the connection is cut without an answer."""
    CUT_BEFORE = auto()
    """The connection is cut; the request is not passed on."""
    HANG_BEFORE = auto()
    """No answer for HANG_SECONDS; the request is not passed on."""
    HANG_AFTER = auto()
    """The request is done; no answer for HANG_SECONDS."""
    CONFLICT = auto()
    """The answer is 409 ConditionalRequestConflict."""
    SLOW_DOWN = auto()
    """The answer is 503 SlowDown."""
    SKEW = auto()
    """The answer is 403 RequestTimeTooSkewed."""
    REGION = auto()
    """The answer is 301 PermanentRedirect."""
    HALF = auto()
    """The connection is cut after half of the answer's body."""


_ANSWERS: dict[Fault, tuple[int, str]] = {
    Fault.FAIL_BEFORE: (500, "InternalError"),
    Fault.FAIL_AFTER: (500, "InternalError"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.SKEW: (403, "RequestTimeTooSkewed"),
    Fault.REGION: (301, "PermanentRedirect"),
}


@dataclass(frozen=True)
class Asked:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


Wanted = Callable[[Asked], bool]


@dataclass
class Proxy:
    """State of a proxy. It applies `faults`, in order, to the requests that `wanted` accepts, and passes on
    the others. While `down` is True, it cuts all connections."""

    endpoint: str
    asked: list[Asked] = field(default_factory=list[Asked])
    faults: list[Fault] = field(default_factory=list[Fault])
    wanted: Wanted = lambda asked: asked.method == "PUT"
    down: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, asked: Asked) -> Fault | None:
        with self.lock:
            self.asked.append(asked)
            if self.down:
                return Fault.CUT_BEFORE
            return self.faults.pop(0) if self.faults and self.wanted(asked) else None

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)


@contextmanager
def run_proxy(upstream: str) -> Generator[Proxy]:
    """Runs a proxy in front of the server at `upstream`, as in `http://host:port`."""
    proxy = Proxy("")

    class Handler(_Handler):
        def respond(self, asked: Asked) -> None:
            fault = proxy.take_fault(asked)
            if fault in {Fault.HANG_BEFORE, Fault.CUT_BEFORE}:
                self.hang_or_cut(fault)
            elif fault in _ANSWERS and fault is not Fault.FAIL_AFTER:
                self.answer(error_of(fault))
            else:
                answer = pass_on(upstream, asked)
                if fault is Fault.FAIL_AFTER:
                    self.answer(error_of(fault))
                elif fault in {Fault.CUT_AFTER, Fault.HANG_AFTER}:
                    self.hang_or_cut(fault)
                else:
                    self.answer(answer, half=fault is Fault.HALF)

    with _serving(Handler) as endpoint:
        proxy.endpoint = endpoint
        yield proxy


@contextmanager
def recording(respond: Callable[[Asked], Answer]) -> Generator[tuple[str, list[Asked]]]:
    """Runs a server that answers each request with `respond`; yields its endpoint and the list of its requests."""
    seen: list[Asked] = []

    class Handler(_Handler):
        def respond(self, asked: Asked) -> None:
            seen.append(asked)
            self.answer(respond(asked))

    with _serving(Handler) as endpoint:
        yield endpoint, seen


def error_of(fault: Fault) -> Answer:
    """Builds the error answer of S3 for a fault."""
    status, code = _ANSWERS[fault]
    body = f"<Error><Code>{code}</Code><Message>injected fault</Message></Error>".encode()
    return Answer(status, {"Content-Type": "application/xml"}, body)


def pass_on(upstream: str, asked: Asked) -> Answer:
    """Passes a request on to the real server, with the signed headers unchanged."""
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

    def hang_or_cut(self, fault: Fault) -> None:
        if fault in {Fault.HANG_BEFORE, Fault.HANG_AFTER}:
            time.sleep(HANG_SECONDS)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


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

"""An HTTP receiver on loopback, for the demo, for chaos and for tests: keeps what it took, by delivery id."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self


class Answer(NamedTuple):
    """`takes`: whether the receiver keeps what came, whatever it says. `after`: seconds until it says so."""

    status: int = 200
    takes: bool = True
    after: float = 0.0


class Arrival(NamedTuple):
    """One request. `at`: seconds of the monotonic clock."""

    path: str
    delivery: str
    body: bytes
    at: float


class Receiver:
    """Takes everything, unless a subclass answers otherwise. A context manager that listens on a free port."""

    def __init__(self) -> None:
        self.url = ""
        self.arrivals: list[Arrival] = []
        self.taken: list[Arrival] = []
        self.arrived = threading.Event()
        self._server = serving(self._handler())

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.arrivals)

    def answer(self, path: str) -> Answer:
        """How a request is answered; may take its time. Called from a thread for each connection."""
        del path
        return Answer()

    @property
    def bodies(self) -> Mapping[str, list[bytes]]:
        """What was taken, by delivery id, repeats included."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for arrival in self.taken:
            found[arrival.delivery].append(arrival.body)
        return found

    def __enter__(self) -> Self:
        self.url = self._server.__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._server.__exit__(None, None, None)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the sender died in the middle
                    self.close_connection = True
                    return
                arrival = Arrival(self.path, self.headers["webhook-id"], body, time.monotonic())
                receiver.arrivals.append(arrival)
                receiver.arrived.set()
                answer = receiver.answer(self.path)
                if answer.takes:
                    receiver.taken.append(arrival)
                time.sleep(answer.after)
                self.send_response(answer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Whoever uses it shows what came."""

        return Handler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    """A server on a free loopback port; yields its URL. Senders may end in the middle of a request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A sender that was killed, or that no longer waits, is none of the server's affair."""

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="receiver", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

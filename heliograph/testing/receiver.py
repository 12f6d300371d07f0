"""An HTTP receiver on loopback for the demo, chaos and tests: keeps the deliveries that it takes, by id."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self


class Answer(NamedTuple):
    """An answer. `takes`: True if the receiver keeps the delivery, whatever `status` it answers.

    `after`: delay in seconds.
    """

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
    """Takes every delivery, unless a subclass answers otherwise. A context manager that listens on a free port."""

    def __init__(self) -> None:
        self.url = ""
        self.arrivals: list[Arrival] = []
        self.taken: list[Arrival] = []
        self.arrived = threading.Event()
        self._server = serving(self._handler())

    @property
    def count(self) -> int:
        """The number of requests that arrived."""
        return len(self.arrivals)

    def answer(self, path: str) -> Answer:
        """Returns the answer to a request. Called in the thread of the connection; may block."""
        del path
        return Answer()

    @property
    def bodies(self) -> Mapping[str, list[bytes]]:
        """The bodies of the requests that were taken, by delivery id; a repeat is a second body."""
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
                if len(body) < length:  # the sender died during its request
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
                """Logs nothing: `arrivals` has every request."""

        return Handler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    """Serves on a free loopback port; yields the URL. Senders may end during a request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignores the errors of senders that were killed or no longer wait."""

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="receiver", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

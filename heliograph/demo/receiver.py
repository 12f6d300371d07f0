"""The demo's HTTP receiver: keeps what it got, by delivery id."""

from __future__ import annotations

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GONE = "/gone"


class Receiver:
    """Answers 200 to everything, 410 to what comes to `/gone`. On a free loopback port."""

    def __init__(self) -> None:
        self.received: dict[str, list[bytes]] = defaultdict(list)
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != GONE:
                    received[self.headers["webhook-id"]].append(body)
                self.send_response(410 if self.path == GONE else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """The demo's table shows the counts."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

"""`/metrics`, `/healthz` and `/readyz` of a running process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from heliograph.runner import Runner
from schemas.errors import InputError


def serve(address: str, runner: Runner) -> ThreadingHTTPServer:
    """Serve on `HOST:PORT` in a thread until `shutdown`. `/healthz`: the process answers; `/readyz`: every role works,
    or 503 with a line for each that does not. Raises InputError for an address that cannot be used."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise InputError(f"--metrics {address!r}: expected HOST:PORT, as in 127.0.0.1:9464")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
                case "/healthz":
                    self._answer(200, b"ok\n")
                case "/readyz":
                    failures = runner.failures()
                    lines = "".join(f"{role}: {why}\n" for role, why in failures.items()) or "ok\n"
                    self._answer(503 if failures else 200, lines.encode())
                case _:
                    self._answer(404, b"known: /metrics /healthz /readyz\n")

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not worth a line each."""

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler)
    except OSError as error:
        raise InputError(f"--metrics {address!r}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server

"""Serves `/metrics`, `/healthz` and `/readyz` of a running process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from heliograph.app.runner import Runner
from schemas.errors import BusError, InputError

log = structlog.get_logger()

TEXT = "text/plain; charset=utf-8"
CLIENT_SECONDS = 10.0
"""Time limit in seconds for a client to send its request and read the answer, since it occupies a thread."""


def serve(address: str, runner: Runner) -> ThreadingHTTPServer:
    """Serves on `HOST:PORT` in a thread until `shutdown`.

    `/healthz` answers while the process lives; `/readyz` answers 200 if every role works, else 503 with a line for each
    that does not. Raises InputError for an address that cannot be used.
    """
    host, port = _parse(address)

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(200, _metrics(runner), CONTENT_TYPE_LATEST)
                case "/healthz":
                    self._answer(200, b"ok\n")
                case "/readyz":
                    unready = runner.unready()
                    lines = "".join(f"{role}: {why}\n" for role, why in unready.items()) or "ok\n"
                    self._answer(503 if unready else 200, lines.encode())
                case _:
                    self._answer(404, b"known: /metrics /healthz /readyz\n")

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing, since probes come every few seconds."""

        def _answer(self, status: int, body: bytes, kind: str = TEXT) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InputError(f"--metrics {address!r}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    log.info("metrics served", url=f"http://{host}:{server.server_port}/metrics")
    return server


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--metrics {address!r}: expected HOST:PORT, as in 127.0.0.1:9464")
    return host or "127.0.0.1", int(port)


def _metrics(runner: Runner) -> bytes:
    """Returns all metrics.

    If the bus does not answer in time, the metrics that are read from it keep their last values.
    """
    try:
        runner.observe()
    except BusError as error:
        log.warning("lag not measured", error=str(error))
    return generate_latest()

"""The product as its users meet it: the command line in processes of its own, and a receiver on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT.parent / "shared" / "spec" / "examples"


class Product:
    """One home, and commands on it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")},
            "HELIOGRAPH_HOME": str(home),
            "HELIOGRAPH_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
            "HELIOGRAPH_BUS_RESERVE_MB": "0",
            **environment,
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command that goes on; the caller ends it."""
        with (self.home.parent / "run.log").open("ab") as log:
            return subprocess.Popen(self._command(words), env=self._environment, stdout=log, stderr=log)

    def call(self, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command to its end."""
        return subprocess.run(
            self._command(words),
            env=self._environment,
            input=feed,
            capture_output=True,
            timeout=300,
            check=False,
        )

    def do(self, *words: str, feed: bytes = b"") -> str:
        """A command that must succeed; returns what it printed."""
        done = self.call(*words, feed=feed)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """A listing."""
        return [json.loads(line) for line in self.do(*words, "--json").splitlines()]

    def apply(self, text: str) -> None:
        """Apply subscriptions given as TOML."""
        self.do("subscriptions", "apply", "-", feed=text.encode())

    def until_idle(self) -> None:
        """Let everything come to rest."""
        self.do("run", "--until-idle")

    @staticmethod
    def _command(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-m", "heliograph", *words]


class Receiver:
    """What came to an HTTP server: bodies by delivery id, in order of arrival."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: dict[str, list[bytes]] = defaultdict(list)
        self.statuses: Mapping[str, int] = {}
        self.count = 0
        self.arrived = threading.Event()

    def all(self) -> list[bytes]:
        """Every body, repeats included."""
        return [body for bodies in self.bodies.values() for body in bodies]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver on a free loopback port."""
    found = Receiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                found.bodies[self.headers["webhook-id"]].append(body)
                found.count += 1
                found.arrived.set()
            self.send_response(found.statuses.get(self.path, 200))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """A test's output is its failures."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A sender that was killed in the middle is what the tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

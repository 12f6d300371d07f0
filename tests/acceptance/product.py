"""The product as users run it: commands in processes of their own, and a receiver on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.bus.base import Bus
from heliograph.testing.receiver import Answer, Receiver
from schemas.clock import Clock

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT.parent / "shared" / "spec" / "examples"


class Product:
    """Runs commands on one home."""

    def __init__(self, home: Path, *, started: ExitStack | None = None, **environment: str) -> None:
        self.home = home
        self._started = started
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")},
            "HELIOGRAPH_HOME": str(home),
            "HELIOGRAPH_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
            "HELIOGRAPH_BUS_RESERVE_MB": "0",
            **environment,
        }

    def start(self, *words: str, fed: bool = False) -> subprocess.Popen[bytes]:
        """Starts a command that keeps running; the caller or the given stack ends it. `fed`: gives it a pipe as input."""
        return self._begin(self._command(words), fed=fed)

    def start_module(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Starts a module that keeps running on this home, and is ended as by `start`."""
        return self._begin([sys.executable, "-m", module, *words])

    def _begin(self, command: list[str], *, fed: bool = False) -> subprocess.Popen[bytes]:
        with (self.home.parent / "run.log").open("ab") as log:
            stdin = subprocess.PIPE if fed else subprocess.DEVNULL
            process = subprocess.Popen(command, env=self._environment, stdin=stdin, stdout=log, stderr=log)
        if self._started is not None:
            self._started.callback(_end, process)
        return process

    def log(self) -> str:
        """Returns the log lines of the commands that keep running."""
        return (self.home.parent / "run.log").read_text()

    def call(self, *words: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs a command to its end."""
        return subprocess.run(
            self._command(words),
            env=self._environment,
            input=feed,
            capture_output=True,
            timeout=300,
            check=False,
        )

    def do(self, *words: str, feed: bytes = b"") -> str:
        """Runs a command that must succeed; returns its output."""
        done = self.call(*words, feed=feed)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def rows(self, *words: str, feed: bytes = b"") -> list[dict[str, Any]]:
        """Runs a command with `--json`; returns its rows."""
        return [json.loads(line) for line in self.do(*words, "--json", feed=feed).splitlines()]

    def apply(self, text: str) -> None:
        """Applies subscriptions given as TOML."""
        self.do("subscriptions", "apply", "-", feed=text.encode())

    def emit(self) -> None:
        """Emits one notification."""
        self.do("emit", "Instance:StateChange", "--resource", "i-1", "--content", "state=Running")

    def members(self, group: str) -> int:
        """Counts the live members of a group."""
        with closing(self.bus()) as bus:
            return len(bus.members(group))

    def count(self, topic: str) -> int:
        """Counts the records appended to a topic."""
        with closing(self.bus()) as bus:
            return sum(extent.end for extent in bus.extents(topic).values())

    def bus(self) -> Bus:
        """Opens the bus in this process, for tests that no command serves; the caller closes it."""
        return self.deployment().bus

    def deployment(self, clock: Clock | None = None) -> Deployment:
        """Opens bus and stores in this process, for tests that no command serves; the caller closes it."""
        return Deployment(load(self._environment), clock)

    def until_idle(self) -> None:
        """Runs all roles until they are idle."""
        self.do("run", "--until-idle")

    @staticmethod
    def _command(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-m", "heliograph", *words]


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


def until(seen: Callable[[], T], seconds: float = 60, every: float = 0.1) -> T:
    """Calls `seen` every `every` seconds until it returns something true, and returns that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = seen()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not seen within {seconds} s")


class Hook(Receiver):
    """Answers with the status in `statuses` for a path (else 200), and not at all while `hangs` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: Mapping[str, int] = {}
        self.hangs = threading.Event()

    def answer(self, path: str) -> Answer:
        status = self.statuses.get(path, 200)
        while self.hangs.is_set():
            time.sleep(0.05)
        return Answer(status, takes=status < 300)

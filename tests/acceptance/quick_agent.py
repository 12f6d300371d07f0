"""An agent whose clock runs at twenty times the normal speed: a command that repeats every ten seconds is due twice a second.

`python -m tests.acceptance.quick_agent INSTANCE ORIGIN`
"""

from __future__ import annotations

import os
import sys
import threading
import time

from heliograph.app.agent import build_agent, serve_agent
from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.operations.assistant import read_keys
from producers.assistant.policy import Policy
from producers.assistant.reporting import Instance

FACTOR = 20


class QuickClock:
    """A clock that is right at `origin` (milliseconds since the epoch) and runs fast from then on."""

    def __init__(self, origin: int) -> None:
        self.origin = origin

    def now(self) -> int:
        """Returns milliseconds since the epoch, the same in every process."""
        return self.origin + (time.time_ns() // 1_000_000 - self.origin) * FACTOR

    def monotonic(self) -> float:
        """Returns seconds."""
        return time.monotonic() * FACTOR


def main() -> None:
    """Runs the agent of the named instance until it is killed."""
    instance, origin = sys.argv[1:]
    with Deployment(load(os.environ), QuickClock(int(origin))) as deployment:
        folder = deployment.config.home / "agents" / instance
        agent = build_agent(
            deployment,
            read_keys(deployment),
            Instance(instance, "cn-hangzhou", 9),
            Policy(),
            secrets={},
            folder=folder,
        )
        serve_agent(agent, threading.Event())


if __name__ == "__main__":
    main()

"""Common parts of the services: cache, locks, free ports, waiting, and skipping tests without a service."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "heliograph" / "services"
START_WITHIN = 60.0


class Unavailable(Exception):  # noqa: N818
    """The service cannot run on this machine; the text gives the reason."""


def unavailable(error: Unavailable) -> None:
    """Skips the test, or fails it if services are required."""
    if os.environ.get("HELIOGRAPH_REQUIRE_SERVICES") == "1":
        pytest.fail(f"services are required: {error}")
    pytest.skip(str(error))


@contextmanager
def locked(name: str) -> Generator[Path]:
    """Locks a service, so that one test process obtains it while other processes wait. Yields the folder of the
    service, which may not exist yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def free_ports(count: int) -> list[int]:
    """Finds loopback ports on which no process listens."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Waits until `ready()` is True. Returns False if the process ends, or is not ready within START_WITHIN seconds."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return True
        time.sleep(0.1)
    return False

"""What all services of the tests share: where they are kept, one obtaining at a time, free ports, skip or fail."""

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


class Unavailable(Exception):  # noqa: N818 - reads as what it is
    """The service cannot be had here; the text says why."""


def unavailable(error: Unavailable) -> None:
    """Skip, or fail where services are required."""
    if os.environ.get("HELIOGRAPH_REQUIRE_SERVICES") == "1":
        pytest.fail(f"services are required: {error}")
    pytest.skip(str(error))


@contextmanager
def locked(name: str) -> Generator[Path]:
    """Of several test processes one obtains a service, and the others wait. Yields its folder, made or not."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Whether a process became ready before it ended or START_WITHIN seconds had passed."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return True
        time.sleep(0.1)
    return False

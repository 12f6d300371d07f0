"""A process of roles as chaos starts it: `heliograph run`, with a clock that jumps and files that cannot grow."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import threading
from pathlib import Path

from heliograph.app import logging_setup
from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.app.gc_tuning import collect_seldom
from heliograph.app.roles import roles
from heliograph.app.runner import Runner
from schemas.clock import SystemClock


class JumpingClock(SystemClock):
    """The machine's time, and as many seconds as a file says; none while there is no file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> int:
        """Milliseconds since the epoch, and the jump."""
        try:
            return super().now() + round(float(self._file.read_text()) * 1000)
        except FileNotFoundError:
            return super().now()


def main() -> None:
    """Run until killed, or until whoever started it is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*")
    parser.add_argument("--clock", type=Path, required=True, help="a file that holds seconds")
    parser.add_argument("--file-limit", type=int, default=0, help="bytes that no file may exceed")
    arguments = parser.parse_args()
    if arguments.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_limit, arguments.file_limit))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = load(os.environ)
    logging_setup.configure(config.log)
    with Deployment(config, JumpingClock(arguments.clock)) as deployment:
        runner = Runner(deployment.open().bus, roles(deployment, arguments.roles))
        collect_seldom()
        runner.start()
        runner.wait()


def _end_with_parent() -> None:
    """Standard input is a pipe that nobody writes to: it ends with the process that holds the other end."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()

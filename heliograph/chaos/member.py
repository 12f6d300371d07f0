"""A role process of chaos: `heliograph run` with a clock that can jump and files that cannot grow."""

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
    """The machine's time plus the seconds in a file; without the file, the machine's time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> int:
        """Returns milliseconds since the epoch, the jump included."""
        try:
            return super().now() + round(float(self._file.read_text()) * 1000)
        except FileNotFoundError:
            return super().now()


def main() -> None:
    """Runs until it is killed, or until the process that started it has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*")
    parser.add_argument(
        "--clock", type=Path, required=True, help="File that holds the jump of the clock in seconds"
    )
    parser.add_argument(
        "--file-limit", type=int, default=0, help="Maximum size of a file in bytes; default 0, no limit"
    )
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
    """Ends the process once standard input ends: it is a pipe from the parent, which writes nothing to it."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()

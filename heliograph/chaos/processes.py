"""The role processes of a scratch deployment: starts, kills and pauses them, limits their files, moves their clocks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from heliograph.chaos.faults import ALL, PROCESSES

IDLE_WITHIN = 300.0
"""Time limit in seconds of `heliograph run --until-idle` at the end of a round."""


class Processes:
    """One process for each of `PROCESSES`: started on entry, killed on exit.

    Their log lines go to `<folder>/run.log`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, file_limit: int = 0) -> None:
        """Starts a process. `file_limit`: maximum size of its files in bytes; 0 for no limit."""
        command = [sys.executable, "-P", "-m", "heliograph.chaos.member", *(() if name == ALL else (name,))]
        command += ["--clock", str(self._clock(name)), "--file-limit", str(file_limit)]
        with self.log_file.open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - ourselves
                command, env=self._environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """Sends SIGKILL to a process, if it was started."""
        process = self._running.pop(name, None)
        if process is not None:
            with process:
                process.kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to a running process."""
        self._running[name].send_signal(number)

    def step_clock(self, name: str, seconds: float) -> None:
        """Moves the wall clock of a process by `seconds` from the machine's time; 0 sets it to the machine's time."""
        new = self._clock(name).with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock(name))

    def pid(self, name: str) -> int:
        """Returns the process id of a running process."""
        return self._running[name].pid

    def ended(self) -> set[str]:
        """Returns the names of the processes that ended without `kill`."""
        return {name for name, process in self._running.items() if process.poll() is not None}

    def run_until_idle(self) -> str | None:
        """Runs `heliograph run --until-idle` with all roles; returns the failure, None if it succeeded."""
        command = [sys.executable, "-P", "-m", "heliograph", "run", "--until-idle"]
        try:
            done = subprocess.run(  # noqa: S603 - ourselves
                command, env=self._environment, capture_output=True, timeout=IDLE_WITHIN, check=False
            )
        except subprocess.TimeoutExpired:
            return f"did not become idle within {IDLE_WITHIN:.0f} s"
        with self.log_file.open("ab") as log:
            log.write(done.stderr)
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr.decode()[-500:]}"
        return None

    @property
    def log_file(self) -> Path:
        """The file with the log lines of all processes."""
        return self._folder / "run.log"

    def __enter__(self) -> Self:
        for name in PROCESSES:
            self.start(name)
        return self

    def __exit__(self, *ended: object) -> None:
        self.kill_all()

    def kill_all(self) -> None:
        """Sends SIGKILL to every running process."""
        for name in list(self._running):
            self.kill(name)

    def _clock(self, name: str) -> Path:
        return self._folder / f"clock-{name}"

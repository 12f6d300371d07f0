"""The role processes of a scratch deployment: started, killed, paused, cramped, and given another time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from heliograph.chaos.faults import ALL, PROCESSES

IDLE_WITHIN = 300.0
"""Seconds for `heliograph run --until-idle` at the end."""


class Processes:
    """One for each of `PROCESSES`, started on entry and killed on exit. What they log is in `<folder>/run.log`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, file_limit: int = 0) -> None:
        """Start the process; no file of it may exceed `file_limit` bytes, unless that is 0."""
        command = [sys.executable, "-P", "-m", "heliograph.chaos.member", *(() if name == ALL else (name,))]
        command += ["--clock", str(self._clock(name)), "--file-limit", str(file_limit)]
        with self.log_file.open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - ourselves
                command, env=self._environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """SIGKILL, whatever state it is in."""
        process = self._running.pop(name, None)
        if process is not None:
            with process:
                process.kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To one that runs."""
        self._running[name].send_signal(number)

    def step_clock(self, name: str, seconds: float) -> None:
        """From now on the process has another time; 0 gives it the right one again."""
        new = self._clock(name).with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock(name))

    def pid(self, name: str) -> int:
        """Of the process as it is now."""
        return self._running[name].pid

    def ended(self) -> set[str]:
        """Those that ended by themselves."""
        return {name for name, process in self._running.items() if process.poll() is not None}

    def until_idle(self) -> str:
        """`heliograph run --until-idle`, all roles; returns what went wrong, empty if nothing did."""
        command = [sys.executable, "-P", "-m", "heliograph", "run", "--until-idle"]
        try:
            done = subprocess.run(  # noqa: S603 - ourselves
                command, env=self._environment, capture_output=True, timeout=IDLE_WITHIN, check=False
            )
        except subprocess.TimeoutExpired:
            return f"did not become idle within {IDLE_WITHIN:.0f} s"
        with self.log_file.open("ab") as log:
            log.write(done.stderr)
        return f"exit status {done.returncode}: {done.stderr.decode()[-500:]}" if done.returncode else ""

    @property
    def log_file(self) -> Path:
        """What all of them logged."""
        return self._folder / "run.log"

    def __enter__(self) -> Self:
        for name in PROCESSES:
            self.start(name)
        return self

    def __exit__(self, *ended: object) -> None:
        self.kill_all()

    def kill_all(self) -> None:
        """SIGKILL to each that runs."""
        for name in list(self._running):
            self.kill(name)

    def _clock(self, name: str) -> Path:
        return self._folder / f"clock-{name}"

"""Runs a command as a process group: starts it, reads its output, and ends it at its time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

from producers.assistant.accounts import Account, read_groups
from producers.assistant.output import Output

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
MARK = "HELIOGRAPH_RUN"
"""Environment variable of a command, by which its processes are found after a crash of the agent."""
_POLL_SECONDS = 0.1
_PIECE = 64 * 1024
_LAST_PIECES = 16
"""Number of pieces that are read after the command has ended; together they exceed the size of a pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command to start. `timeout`: seconds; `mark`: the value of `MARK`."""

    arguments: Sequence[str]
    folder: Path
    account: Account
    timeout: float
    mark: str

    @property
    def environment(self) -> Mapping[str, str]:
        """The whole environment of the command."""
        return {**self.account.environment, MARK: self.mark}


@dataclass(frozen=True, slots=True)
class Exited:
    """The command ended by itself. `code`: its exit code; 128 plus the signal if a signal ended it, as in shells."""

    code: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The command was ended at its time limit."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The command was ended by `Process.stop`."""


Ended = Exited | TimedOut | Stopped


class Process:
    """One command. `run` blocks its thread; `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """Makes `run` end the command's process group soon."""
        self._stop.set()

    def run(self, launch: Launch, output: Output) -> Ended:
        """Runs the command to its end and adds its output to `output`. Processes that the command left in the
        background keep running, and their output is not read. Raises OSError if the command cannot be started."""
        user, group = (launch.account.uid, launch.account.gid) if launch.account.other else (None, None)
        with subprocess.Popen(  # noqa: S603 - it runs commands by design
            launch.arguments,
            cwd=launch.folder,
            env=launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            umask=0o022,
            user=user,
            group=group,
            extra_groups=read_groups(launch.account) if launch.account.other else None,
        ) as process:
            try:
                return self._listen(process, output, launch.timeout)
            finally:
                _end(process, output)

    def _listen(self, process: subprocess.Popen[bytes], output: Output, timeout: float) -> Ended:
        deadline = time.monotonic() + timeout
        while not _has_exited(process):
            if self._stop.is_set():
                return Stopped()
            if time.monotonic() >= deadline:
                return TimedOut()
            _read(process, output, _POLL_SECONDS)
        code = process.wait()
        return Exited(code if code >= 0 else 128 - code)


def _end(process: subprocess.Popen[bytes], output: Output) -> None:
    """Ends the whole process group unless the command ended by itself, then reads the rest of the output. It waits
    for the group's leader only after the last signal, since until then the kernel does not reuse the process id."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not (
            _read(process, output, _POLL_SECONDS) and _has_exited(process)
        ):
            pass
        _signal(process, signal.SIGKILL)
        process.wait()
    for _ in range(_LAST_PIECES):
        if _read(process, output, 0):
            break
    output.add(b"", last=True)


def _read(process: subprocess.Popen[bytes], output: Output, seconds: float) -> bool:
    """Reads output for at most `seconds`. Returns True if the output has ended, or if there is none and `seconds` is
    0."""
    stream = process.stdout
    if stream is None or stream.closed:
        time.sleep(seconds)
        return True
    if not select([stream], [], [], seconds)[0]:
        return seconds == 0
    piece = os.read(stream.fileno(), _PIECE)
    output.add(piece)
    if not piece:
        stream.close()
    return not piece


def kill_left_over(mark: str) -> None:
    """Kills the processes of a command whose agent was killed. Finds them by their environment in /proc, and repeats
    the search until it finds no new process, since a process may start another during the search."""
    ended: set[int] = set()
    while found := set(_marked(mark)) - ended:
        for number in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        ended |= found


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

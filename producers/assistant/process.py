"""One command as a process group: started, listened to, and ended in time."""

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
"""Variable of a command's environment that tells its processes after the agent was killed."""
_LOOK = 0.1
_PIECE = 64 * 1024
_REST = 16
"""Pieces that are still read once the command has ended: more than a pipe holds."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. `timeout`: seconds; `mark`: the value of `MARK`."""

    words: Sequence[str]
    folder: Path
    who: Account
    timeout: float
    mark: str

    @property
    def environment(self) -> Mapping[str, str]:
        """All that the command gets."""
        return {**self.who.environment, MARK: self.mark}


@dataclass(frozen=True, slots=True)
class Exited:
    """It ran to its end. A signal that ended it counts as shells count it, 128 more."""

    code: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It was ended because its time was over."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was ended because somebody asked for that."""


Ended = Exited | TimedOut | Stopped


class Process:
    """Runs in the thread that calls `run`; `stop` may be called from any."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """End it, and all that it has started, soon."""
        self._stop.set()

    def run(self, launch: Launch, output: Output) -> Ended:
        """Start it and come back when it has ended, and all its output was added. What it left in the background on
        purpose goes on, unheard. Raises OSError when it cannot be started."""
        user, group = (launch.who.uid, launch.who.gid) if launch.who.other else (None, None)
        with subprocess.Popen(  # noqa: S603 - running commands is what this is for
            launch.words,
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
            extra_groups=read_groups(launch.who) if launch.who.other else None,
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
            _read(process, output, _LOOK)
        code = process.wait()
        return Exited(code if code >= 0 else 128 - code)


def _end(process: subprocess.Popen[bytes], output: Output) -> None:
    """End the whole group unless it ended by itself. Its leader is not waited for before the last signal: until then
    the kernel gives its number to nobody else."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not (_read(process, output, _LOOK) and _has_exited(process)):
            pass
        _signal(process, signal.SIGKILL)
        process.wait()
    for _ in range(_REST):
        if _read(process, output, 0):
            break
    output.add(b"", last=True)


def _read(process: subprocess.Popen[bytes], output: Output, seconds: float) -> bool:
    """Take what is printed within so many seconds; whether there is nothing now, or nothing more to come."""
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
    """End the processes of a command whose agent was killed, as far as /proc tells them. One that is starting another
    may do so behind our look, so that we look again until there is none that we have not ended."""
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

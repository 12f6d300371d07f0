"""The deliverer's side of one worker process of kind `python`: starts it, calls it within a time limit, ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import structlog

from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Retry
from sinks.function import worker
from sinks.function.worker import Frame, encode_frame, read_frame
from sinks.http.lines import one_line

START_LIMIT = 60.0
"""Seconds in which a worker must start and import its module; the time limit of a call begins after that."""
END_LIMIT = 2.0
"""Seconds in which an idle worker must end by itself before it is killed."""
_LINE_LIMIT = 2000

_log = structlog.get_logger()


class WorkerFailed(Exception):  # noqa: N818 - becomes an outcome within this module
    """A worker that did not start or did not answer, and must be replaced. `reason`: for the outcome."""

    def __init__(self, code: ReasonCode, detail: str) -> None:
        self.reason = Reason(code, detail)
        super().__init__(detail)


class Worker:
    """One worker process. Its methods block; one thread uses it at a time, but any thread may call `end`.

    Raises WorkerFailed if the process cannot start or the function cannot be imported.
    """

    def __init__(self, handler: str, folder: Path | None) -> None:
        self._handler = handler
        self._ending = threading.Lock()
        self._socket, theirs = socket.socketpair()
        script = Path(worker.__file__)
        command = [sys.executable, "-P", str(script), handler, *([str(folder.absolute())] if folder else [])]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self._socket.close()
            raise WorkerFailed(
                ReasonCode.UNAVAILABLE, f"no worker could be started: {error.strerror}"
            ) from None
        assert self._process.stdout is not None  # noqa: S101 - narrows for the type checker
        threading.Thread(target=_log_lines, args=(handler, self._process.stdout), daemon=True).start()
        try:
            self._wait_until_ready()
        except WorkerFailed:
            self.end()
            raise

    def call(self, delivery: Delivery, timeout: float) -> Outcome:
        """Runs the function on one delivery for at most `timeout` seconds. Raises WorkerFailed."""
        meta = {
            "request_id": delivery.id,
            "deadline": time.time_ns() // 1_000_000 + round(timeout * 1000),
            "source": str(delivery.source),
            "subscription": delivery.subscription,
            "attempt": delivery.attempts.count + 1,
        }
        reply, receipt = self._exchange(encode_frame(meta, delivery.event), timeout)
        if "error" in reply:
            return Retry(Reason(ReasonCode.RECEIVER_FAILED, one_line(str(reply["error"]).encode())))
        return Delivered(one_line(receipt))

    def end(self, grace: float = 0.0) -> None:
        """Ends the process, which may end by itself within `grace` seconds, or kills it and its child processes."""
        with self._ending:
            if self._process.returncode is None:
                self._leave(grace)
                self._process.wait()
            self._socket.close()

    def _leave(self, grace: float) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            with suppress(
                ProcessLookupError, PermissionError
            ):  # the process has just ended; macOS raises PermissionError
                os.killpg(self._process.pid, signal.SIGKILL)

    def _wait_until_ready(self) -> None:
        reply, _ = self._exchange(b"", START_LIMIT)
        if "error" in reply:
            detail = f"{self._handler} cannot be imported: {reply['error']}"
            raise WorkerFailed(ReasonCode.MISCONFIGURED, one_line(detail.encode()))

    def _exchange(self, frame: bytes, timeout: float) -> Frame:
        deadline = time.monotonic() + timeout

        def receive(count: int) -> bytes:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            return self._socket.recv(count)

        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(frame)
            return read_frame(receive)
        except TimeoutError:
            raise WorkerFailed(
                ReasonCode.TIMED_OUT, f"{self._handler} took longer than {timeout:g} s"
            ) from None
        except (EOFError, OSError, ValueError):
            raise WorkerFailed(ReasonCode.UNAVAILABLE, self._describe_end()) from None

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return f"{self._handler}: the worker sent no valid reply"
        if code < 0:
            return f"{self._handler}: the worker was ended by {signal.Signals(-code).name}"
        return f"{self._handler}: the worker ended with exit code {code}"


def _log_lines(handler: str, output: IO[bytes]) -> None:
    """Writes a log line for each line that the function prints, until its process ends."""
    with output:
        while line := output.readline(_LINE_LIMIT):
            _log.info("function printed", handler=handler, line=line.decode(errors="replace").rstrip())

"""A receiver that misbehaves as told."""

from __future__ import annotations

import threading
from itertools import count

from heliograph.chaos.faults import Fault
from heliograph.testing.receiver import Answer, Receiver

TIME_LIMIT = 1.0
"""Seconds for which our senders wait for it, as `subscriptions.toml` says."""
REFUSING_PATH = "/refused"
FAILED_EACH = 17
"""Of so many requests one fails when it is well, so that something waits on the timing wheel at all times."""

_TAKEN = Answer()
_FAILED = Answer(500, takes=False)
_REFUSED = Answer(503, takes=False)
"""Which asks for less, so that the target is spared for a while."""


class Misbehaving(Receiver):
    """Fails one request of `FAILED_EACH`, and refuses for good all that comes to `/refused`; else does as told."""

    def __init__(self) -> None:
        super().__init__()
        self._fault: Fault | None = None
        self._well = threading.Event()
        self._well.set()
        self._asked = count(1)

    def behave(self, fault: Fault | None) -> None:
        """From now on; None: well. What was stalled is let go, and was not taken."""
        self._fault = fault
        if fault is Fault.STALL:
            self._well.clear()
        else:
            self._well.set()

    def answer(self, path: str) -> Answer:
        """What it says to a request, or nothing for a while."""
        if path == REFUSING_PATH:
            return Answer(400, takes=False)
        number = next(self._asked)
        match self._fault:
            case Fault.STALL:
                self._well.wait()
                return _REFUSED
            case Fault.REFUSE:
                return _REFUSED if number % 2 else _TAKEN
            case Fault.LATE:
                return Answer(after=1.5 * TIME_LIMIT)
            case Fault.DENY:
                return Answer(500)
            case _:
                return _TAKEN if number % FAILED_EACH else _FAILED

"""The receiver of chaos, which answers as the current fault demands."""

from __future__ import annotations

import threading
from itertools import count

from heliograph.chaos.faults import Fault
from heliograph.testing.receiver import Answer, Receiver

TIME_LIMIT = 1.0
"""Time limit of the senders in seconds, as in `subscriptions.toml`."""
REFUSED_TARGET = "refused"
"""Target whose callbacks all get 400; each target is called at the path of its id."""
FAILED_EACH = 17
"""One request in this number fails even without a fault, so that some deliveries always wait on the timing wheel."""

_TAKEN = Answer()
_FAILED = Answer(500, takes=False)
_REFUSED = Answer(503, takes=False)
"""An answer that throttles the target for a while."""


class FaultyReceiver(Receiver):
    """Takes all requests but one in `FAILED_EACH` and those of `REFUSED_TARGET`, unless a fault is set."""

    def __init__(self) -> None:
        super().__init__()
        self._fault: Fault | None = None
        self._running = threading.Event()
        self._running.set()
        self._numbers = count(1)

    def set_fault(self, fault: Fault | None) -> None:
        """Sets the fault for the next requests; None for none. Stalled requests then get 503 and are not taken."""
        self._fault = fault
        if fault is Fault.STALL:
            self._running.clear()
        else:
            self._running.set()

    def answer(self, path: str) -> Answer:
        """Answers a request; while stalled, waits first."""
        if path == f"/{REFUSED_TARGET}":
            return Answer(400, takes=False)
        number = next(self._numbers)
        match self._fault:
            case Fault.STALL:
                self._running.wait()
                return _REFUSED
            case Fault.REFUSE:
                return _REFUSED if number % 2 else _TAKEN
            case Fault.LATE:
                return Answer(after=1.5 * TIME_LIMIT)
            case Fault.DENY:
                return Answer(500)
            case _:
                return _TAKEN if number % FAILED_EACH else _FAILED

"""Wakes waiting polls: at once after an append of this process, within a millisecond after one of another process."""

from __future__ import annotations

import threading
import time

import structlog

from heliograph.bus.sqlite.catalogue import Catalogue
from schemas.errors import BusError

_log = structlog.get_logger()

_TICK = 0.001
"""Seconds between two looks at the file while a poll waits."""
_AFTER_ERROR = 1.0
"""Seconds until the next look after an error."""


class Watch:
    """A condition that polls wait for. `generation` grows with every change, `moves` with every change of members and owners
    of any group."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._news = threading.Condition()
        self._wanted = threading.Event()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self.generation = 0
        self.moves = 0

    def notify(self, *, moved: bool = False) -> None:
        """Wakes every waiting poll. `moved`: members or owners have changed."""
        with self._news:
            self.generation += 1
            self.moves += moved
            self._news.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Waits up to `seconds`, until `generation` differs from `seen`."""
        with self._news:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._follow, name="bus-watch", daemon=True)
                self._thread.start()
            self._waiting += 1
            self._wanted.set()
            self._news.wait_for(lambda: self.generation != seen, seconds)
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()

    def close(self) -> None:
        """Stops watching the file, and wakes every waiting poll."""
        with self._news:
            self._closed = True
        self.notify()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        seen = self._catalogue.known()
        while not self._closed:
            self._wanted.wait()
            try:
                now = self._catalogue.refresh()
            except BusError as error:
                # Each woken poll meets the same error when it looks itself.
                _log.warning("watching the bus file failed", error=str(error))
                self.notify()
                time.sleep(_AFTER_ERROR)
                continue
            if now is not seen:
                seen = now
                self.notify()
            time.sleep(_TICK)

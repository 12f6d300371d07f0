"""Wakes the polls that wait: at once for what this process appends, within a millisecond for what others do."""

from __future__ import annotations

import threading
import time

import structlog

from heliograph.bus.sqlite.catalogue import Catalogue
from schemas.errors import BusError

_log = structlog.get_logger()

_TICK = 0.001
_AFTER_ERROR = 1.0


class Watch:
    """`generation` grows with every piece of news, `moves` with every change of members and owners of any group."""

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
        """Wake everybody who waits."""
        with self._news:
            self.generation += 1
            self.moves += moved
            self._news.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Return after so many seconds, or as soon as `generation` is not `seen`."""
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
        """Stop looking, and let everybody go who waits."""
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
                # Those who wait meet the same error in their next look.
                _log.warning("bus_watch_failed", error=str(error))
                self.notify()
                time.sleep(_AFTER_ERROR)
                continue
            if now is not seen:
                seen = now
                self.notify()
            time.sleep(_TICK)

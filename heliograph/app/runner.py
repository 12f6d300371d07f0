"""Runs each role in a thread of its own, restarts a role that fails, and drains the roles before it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue

import structlog

from heliograph.bus.base import Bus
from schemas import metrics, topics
from schemas.errors import BusError, BusUnavailable, HeliographError
from schemas.role import Role

log = structlog.get_logger()

POLL_SECONDS = 0.5
WATCH_SECONDS = 0.05
MAINTAIN_SECONDS = 60.0
WATCHDOG_SECONDS = 1.0
OBSERVE_SECONDS = 2.0
STUCK_SECONDS = 30.0
"""Seconds without a turn of its loop after which a role counts as stuck; no single step takes so long."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class RoleThread(threading.Thread):
    """The thread of one role: builds the role, runs its loop, and keeps its last failure.

    A role that fails is built again after a pause, which doubles with each failure.
    """

    def __init__(self, name: str, build: Callable[[], Role], stopping: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.role: Role | None = None
        self.failure = ""
        self.works = False
        self._turned = time.monotonic()
        self._build = build
        self._stopping = stopping

    def run(self) -> None:
        """Runs the role until the event `stopping` is set."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._live()
            except Exception as error:  # noqa: BLE001 - a role may fail in any way, and must not do so silently
                self._report(error)
            if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def age(self) -> float:
        """Returns the seconds since the last turn of the loop."""
        return time.monotonic() - self._turned

    def is_stuck(self) -> bool:
        """True if the loop has not turned for `STUCK_SECONDS`.

        A failed role that waits for its restart is not stuck.
        """
        return not self.failure and self.age() > STUCK_SECONDS

    def _live(self) -> None:
        self._turned = time.monotonic()
        role = self._build()
        self.role = role
        log.info("role started", role=self.name)
        try:
            while not self._stopping.is_set():
                role.step(POLL_SECONDS)
                self._turned = time.monotonic()
                self.failure = ""
                self.works = True
        finally:
            self.role = None
            role.close()
            log.info("role stopped", role=self.name)

    def _report(self, error: Exception) -> None:
        self.failure = str(error) or type(error).__name__
        self.works = False
        known = isinstance(error, HeliographError)
        log.error("role failed", role=self.name, error=self.failure, exc_info=None if known else error)


class Runner:
    """The roles of one process, and a watchdog over their loops.

    The watchdog logs a loop that hangs in a poll or a send, on any bus, and the metrics show its age.
    """

    def __init__(self, bus: Bus, roles: Mapping[str, Callable[[], Role]]) -> None:
        self._bus = bus
        self._asked = SimpleQueue[None]()
        self._stopping = threading.Event()
        self._threads = [RoleThread(name, build, self._stopping) for name, build in roles.items()]
        self._upkeep = threading.Thread(target=self._maintain_often, name="upkeep", daemon=True)
        self._measuring = Measuring(self._measure)

    def start(self) -> None:
        """Starts every role and the watchdog."""
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Makes `wait` and `wait_until_idle` return. Safe in a signal handler, which must not touch an Event."""
        self._asked.put(None)

    def join(self, seconds: float = 10.0) -> bool:
        """Makes every role drain, commit and end; returns False if a role does not end within `seconds`."""
        self._stopping.set()
        for role in self._roles():
            role.wake()
        deadline = time.monotonic() + seconds
        upkeep = [self._upkeep] if self._upkeep.is_alive() else []
        for thread in (*self._threads, *upkeep):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def failures(self) -> dict[str, str]:
        """Returns the reason of each role that has failed or is stuck, by the name of the role."""
        found = {thread.name: thread.failure for thread in self._threads if thread.failure}
        for thread in self._threads:
            if thread.is_stuck() and thread.name not in found:
                found[thread.name] = f"its loop has not turned for {thread.age():.0f} s"
        return found

    def unready(self) -> dict[str, str]:
        """Returns the reason of each role that does not work now, by its name: failed, stuck or starting."""
        beginning = {thread.name: "starting" for thread in self._threads if not thread.works}
        return beginning | self.failures()

    def wait(self) -> None:
        """Returns when `stop` is called.

        Another thread applies the bus's retention meanwhile, so that a bus that hangs does not delay the return.
        """
        self._upkeep.start()
        self._asked.get()

    def wait_until_idle(self) -> None:
        """Returns when nothing is due, in flight or unread, when a role has failed, or when `stop` is called.

        Applies the bus's retention once no work is left.
        """
        before: tuple[object, ...] = ()
        while not self._stopped(WATCH_SECONDS) and not self.failures():
            try:
                unread, ends = self._unread()
            except BusUnavailable as error:
                log.warning("progress of the roles unknown", error=str(error))
                continue
            if unread and set(unread) <= {"archiver"}:
                self._flush()
            if unread or self._busy():
                before = ()
            elif ends == before:
                self._maintain()
                return
            else:
                before = ends

    def observe(self) -> None:
        """Sets the gauges that are read from the bus. Raises BusError, also if the bus does not answer in time."""
        self._show_ages()
        self._measuring.run(OBSERVE_SECONDS)

    def _measure(self) -> None:
        for role in self._roles():
            metrics.LAG.labels(role.name).set(unfinished(self._bus, role.name, role.topics)[0])
        for topic in self._bus.topics():
            ends = sum(extent.end for extent in self._bus.extents(topic).values())
            metrics.APPENDED.labels(topic).set(ends)

    def _stopped(self, seconds: float) -> bool:
        """Waits for `stop`; returns False if it is not called in time."""
        try:
            self._asked.get(timeout=seconds)
        except Empty:
            return False
        return True

    def _roles(self) -> Iterator[Role]:
        """Yields the roles that run now; a role may end at any time."""
        for thread in self._threads:
            role = thread.role
            if role is not None:
                yield role

    def _busy(self) -> bool:
        living = list(self._roles())
        return len(living) < len(self._threads) or any(role.busy() for role in living)

    def _flush(self) -> None:
        for role in self._roles():
            role.flush()

    def _unread(self) -> tuple[dict[str, int], tuple[object, ...]]:
        """Counts the records that each role has not finished; returns also the ends of the topics at that moment.

        Leaves out the wheel, whose records wait until they are due: `busy` is true when some are due.
        """
        unread: dict[str, int] = {}
        ends: list[object] = []
        for role in self._roles():
            if role.name == "wheel":
                continue
            count, seen = unfinished(self._bus, role.name, role.topics)
            ends.append((role.name, seen))
            if count:
                unread[role.name] = count
        return unread, tuple(ends)

    def _show_ages(self) -> None:
        for thread in self._threads:
            metrics.LOOP_AGE.labels(thread.name).set(thread.age())

    def _watch(self) -> None:
        """Logs once when a loop is stuck, and once when it turns again."""
        stuck: set[str] = set()
        while not self._stopping.wait(WATCHDOG_SECONDS):
            self._show_ages()
            for thread in self._threads:
                if thread.is_stuck() and thread.name not in stuck:
                    stuck.add(thread.name)
                    log.error("loop stuck", role=thread.name, seconds=round(thread.age()))
                elif not thread.is_stuck() and thread.name in stuck:
                    stuck.remove(thread.name)
                    log.info("loop turns again", role=thread.name)

    def _maintain_often(self) -> None:
        self._maintain()
        while not self._stopping.wait(MAINTAIN_SECONDS):
            self._maintain()

    def _maintain(self) -> None:
        try:
            self._bus.maintain()
        except HeliographError as error:
            log.warning("maintenance failed", error=str(error))


class Measuring:
    """A measurement that may hang and that several threads share: one runs at a time, and each waits a limited time."""

    def __init__(self, measure: Callable[[], None]) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: BusError | None = None

    def run(self, seconds: float) -> None:
        """Starts the measurement, or joins the one under way, and waits for its end.

        Raises its BusError, or BusUnavailable if it does not end within `seconds`.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._try, name="measuring", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(seconds)
        if thread.is_alive():
            raise BusUnavailable(f"the bus has not answered within {seconds:.0f} s")
        if self._failure is not None:
            raise self._failure

    def _try(self) -> None:
        self._failure = None
        try:
            self._measure()
        except BusError as error:
            self._failure = error


def unfinished(bus: Bus, group: str, wanted: tuple[str, ...]) -> tuple[int, int]:
    """Counts the records that a group has not finished in the topics that match the patterns `wanted`.

    Returns also the sum of the ends of these topics, which differs between two calls if records were appended
    meanwhile.
    """
    lag = bus.lag(group)
    count = total = 0
    for topic in bus.topics():
        if topics.matches(topic, wanted):
            for partition, extent in bus.extents(topic).items():
                cursor = lag[partition].cursor if partition in lag else extent.start
                count += max(0, extent.end - max(cursor, extent.start))
                total += extent.end
    return count, total

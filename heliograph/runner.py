"""Running roles: a thread each, restarted when they fail, drained when they are asked to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from heliograph.bus.base import Bus
from schemas import metrics, topics
from schemas.errors import HeliographError
from schemas.role import Role

log = structlog.get_logger()

POLL_SECONDS = 0.5
WATCH_SECONDS = 0.05
REPORT_SECONDS = 5.0
MAINTAIN_SECONDS = 60.0
STUCK_SECONDS = 30.0


class RoleThread(threading.Thread):
    """One role: its loop, its age, and why it failed last. A failed role is built anew after a pause that doubles."""

    def __init__(self, name: str, build: Callable[[], Role], stopping: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.role: Role | None = None
        self.failure = ""
        self.turned = time.monotonic()
        self._build = build
        self._stopping = stopping

    def run(self) -> None:
        """Turn the loop until asked to stop."""
        pause = 1.0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._live()
            except Exception as error:  # noqa: BLE001 - a role may fail in any way, and must not do so silently
                self._report(error)
            if time.monotonic() - started > MAINTAIN_SECONDS:
                pause = 1.0
            if not self._stopping.wait(pause):
                pause = min(pause * 2, MAINTAIN_SECONDS)

    def age(self) -> float:
        """Seconds since the loop last turned."""
        return time.monotonic() - self.turned

    def _live(self) -> None:
        role = self._build()
        self.role = role
        log.info("role started", role=self.name)
        try:
            while not self._stopping.is_set():
                role.step(POLL_SECONDS)
                self.turned = time.monotonic()
                self.failure = ""
        finally:
            self.role = None
            role.close()
            log.info("role stopped", role=self.name)

    def _report(self, error: Exception) -> None:
        self.failure = str(error) or type(error).__name__
        known = isinstance(error, HeliographError)
        log.error("role failed", role=self.name, error=self.failure, exc_info=None if known else error)


class Runner:
    """The roles of one process."""

    def __init__(self, bus: Bus, roles: Mapping[str, Callable[[], Role]]) -> None:
        self._bus = bus
        self._stopping = threading.Event()
        self.threads = [RoleThread(name, build, self._stopping) for name, build in roles.items()]

    def start(self) -> None:
        """Start every role."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Ask every role to drain. Safe from a signal handler."""
        self._stopping.set()

    def join(self, seconds: float = 10.0) -> bool:
        """Wait for the roles to end; False if one did not within `seconds`."""
        self.stop()
        for thread in self.threads:
            if thread.role is not None:
                thread.role.wake()
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def failures(self) -> dict[str, str]:
        """Roles that cannot work now, each with the reason."""
        found = {thread.name: thread.failure for thread in self.threads if thread.failure}
        for thread in self.threads:
            if thread.age() > STUCK_SECONDS and thread.name not in found:
                found[thread.name] = f"its loop has not turned for {thread.age():.0f} s"
        return found

    def wait(self) -> None:
        """Return when asked to stop; meanwhile report and maintain."""
        reported = maintained = 0.0
        while not self._stopping.wait(1.0):
            now = time.monotonic()
            if now - reported > REPORT_SECONDS:
                reported = now
                self._report()
            if now - maintained > MAINTAIN_SECONDS:
                maintained = now
                self._maintain()

    def wait_until_idle(self) -> None:
        """Return when nothing is due, in flight or unread, or when a role failed, or when asked to stop."""
        before: tuple[object, ...] = ()
        while not self._stopping.wait(WATCH_SECONDS) and not self.failures():
            unread, ends = self._unread()
            if unread and set(unread) <= {"archiver"}:
                self._flush()
            if unread or self._busy():
                before = ()
                continue
            if ends == before:
                return
            before = ends

    def _busy(self) -> bool:
        return any(thread.role is None or thread.role.busy() for thread in self.threads)

    def _flush(self) -> None:
        for thread in self.threads:
            if thread.role is not None:
                thread.role.flush()

    def _unread(self) -> tuple[dict[str, int], tuple[object, ...]]:
        """Records that each role has not finished, and the ends they were measured against.

        The wheel's are not unread: they wait for their time, and `busy` says whether it has come.
        """
        unread: dict[str, int] = {}
        ends: list[object] = []
        for thread in self.threads:
            role = thread.role
            if role is None or role.name == "wheel":
                continue
            count, seen = unfinished(self._bus, role.name, role.topics)
            ends.append((role.name, seen))
            if count:
                unread[role.name] = count
        return unread, tuple(ends)

    def _report(self) -> None:
        for thread in self.threads:
            metrics.LOOP_AGE.labels(thread.name).set(thread.age())
            if thread.role is not None:
                count, _ = unfinished(self._bus, thread.role.name, thread.role.topics)
                metrics.LAG.labels(thread.name).set(count)

    def _maintain(self) -> None:
        try:
            self._bus.maintain()
        except HeliographError as error:
            log.warning("maintenance failed", error=str(error))


def unfinished(bus: Bus, group: str, wanted: tuple[str, ...]) -> tuple[int, int]:
    """How many records of `wanted` topics a group has not finished, and the sum of the ends, which tells whether
    anything was appended between two calls."""
    lag = bus.lag(group)
    count = total = 0
    for topic in bus.topics():
        if topics.matches(topic, wanted):
            for partition, extent in bus.extents(topic).items():
                cursor = lag[partition].cursor if partition in lag else extent.start
                count += max(0, extent.end - max(cursor, extent.start))
                total += extent.end
    return count, total

"""One deployment and what is done to it: events are given, something breaks, it goes on; at last it comes to rest."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from typing import assert_never

from heliograph.app.deployment import Deployment
from heliograph.bus.base import Bus
from heliograph.chaos.faults import FAULTS, Fault, Stroke
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import Misbehaving
from heliograph.demo.reconcile import read_all
from producers.edge import Edge
from producers.stream import generate
from schemas.delivery import read_verdict
from schemas.topics import DELIVERIES, VERDICTS

EVENTS_A_TURN = 120
WORKS_WITHIN = 90.0
"""Seconds within which a role that was started is seen at work: on Kafka a member that died is missed for six."""
RESTS_WITHIN = 180.0
"""Seconds within which every delivery has ended once all is well."""
ROOM_BYTES = 64 * 1024
"""By which the log may grow under a process whose disk is full."""
_STREAM, _START_MS = 10_000_000, 1_700_000_000_000

Heal = Callable[[], None]


class Stuck(Exception):  # noqa: N818 - it names a state
    """What had to happen did not."""


class Drive:
    """`accepted`: values whose append returned; `appended`: when it was called, seconds of the monotonic clock; `made`:
    faults by kind. `targets`: how many an event has; `broker_pid`: of the broker that may be paused, else 0."""

    def __init__(
        self,
        deployment: Deployment,
        processes: Processes,
        receiver: Misbehaving,
        *,
        seed: int,
        targets: int,
        broker_pid: int,
    ) -> None:
        self.accepted: list[bytes] = []
        self.appended: dict[bytes, float] = {}
        self.made = Counter[Fault]()
        self._deployment = deployment
        self._processes = processes
        self._receiver = receiver
        self._targets = targets
        self._broker_pid = broker_pid
        self._edge = Edge(deployment.bus)
        self._events = generate(seed, _STREAM, _START_MS)
        self._lasting: dict[str, tuple[float, Heal]] = {}

    def turn(self, stroke: Stroke) -> None:
        """Events, and a fault while they are on their way. Raises Stuck."""
        self._heal_what_is_over(stroke.place)
        values = list(islice(self._events, EVENTS_A_TURN))
        cut = max(1, round(stroke.share * len(values)))
        if stroke.fault is Fault.KILL:
            self._seen(f"a member of {stroke.role}", lambda: self._is_member(stroke.role, stroke.place))
            before = self._done(stroke.role)
            self.emit(values[:cut])
            self._seen(f"work of {stroke.role}", lambda: self._done(stroke.role) > before)
            self.emit(values[cut:])
        else:
            self.emit(values)
        time.sleep(stroke.wait)
        self._make(stroke)
        if ended := self._processes.ended() - self._lasting.keys():
            raise Stuck(f"process {ended.pop()} ended by itself")

    def emit(self, values: Sequence[bytes]) -> None:
        """Append events; they are accepted once that returns. Raises BusError."""
        began = time.monotonic()
        self._edge.submit(values)
        self.accepted += values
        self.appended.update(dict.fromkeys(values, began))

    def rest(self) -> None:
        """Undo what lasts, wait for every verdict, then let the archive become complete. Raises Stuck."""
        self._heal(list(self._lasting))
        owed = len(self.accepted) * self._targets
        self._seen(f"the end of {owed} deliveries", lambda: self._ended(owed), RESTS_WITHIN, every=0.5)
        self._processes.kill_all()
        failure = self._processes.until_idle()
        if failure:
            raise Stuck(f"heliograph run --until-idle: {failure}")

    def _make(self, stroke: Stroke) -> None:
        """Begin a fault, and end it now or once its time is over."""
        heal = self._begin(stroke)
        self.made[stroke.fault] += 1
        if not FAULTS[stroke.fault].blocks:
            self._lasting[stroke.place] = (time.monotonic() + stroke.seconds, heal)
            return
        try:
            time.sleep(stroke.seconds)
        finally:
            heal()

    def _begin(self, stroke: Stroke) -> Heal:
        """Returns what undoes it."""
        place, processes = stroke.place, self._processes
        match stroke.fault:
            case Fault.KILL:
                processes.kill(place)
                return partial(processes.start, place)
            case Fault.PAUSE:
                processes.signal(place, signal.SIGSTOP)
                return partial(processes.signal, place, signal.SIGCONT)
            case Fault.STALL | Fault.REFUSE | Fault.LATE | Fault.DENY:
                self._receiver.behave(stroke.fault)
                return partial(self._receiver.behave, None)
            case Fault.FULL_DISK:
                self._restart(place, self._log_bytes() + ROOM_BYTES)
                return partial(self._restart, place)
            case Fault.CLOCK_STEP:
                processes.step_clock(place, stroke.step)
                return partial(processes.step_clock, place, 0.0)
            case Fault.BROKER_PAUSE:
                os.kill(self._broker_pid, signal.SIGSTOP)
                return partial(self._resume_broker, processes.ended())
            case _ as never:
                assert_never(never)

    def _heal_what_is_over(self, place: str) -> None:
        """And what lasts at `place`, so that a fault meets a part that is well."""
        now = time.monotonic()
        self._heal([each for each, (until, _) in self._lasting.items() if each == place or until <= now])

    def _heal(self, places: Sequence[str]) -> None:
        for place in places:
            _, heal = self._lasting.pop(place)
            heal()

    def _restart(self, name: str, file_limit: int = 0) -> None:
        self._processes.kill(name)
        self._processes.start(name, file_limit)

    def _resume_broker(self, ended_before: Collection[str]) -> None:
        """And do as a supervisor does: what starts while no broker answers says so and ends."""
        os.kill(self._broker_pid, signal.SIGCONT)
        for name in self._processes.ended() - set(ended_before):
            self._restart(name)

    def _log_bytes(self) -> int:
        """Size of the file that the embedded log appends to: its write-ahead log."""
        file = self._deployment.config.home / "bus.db-wal"
        return file.stat().st_size if file.exists() else 0

    def _done(self, role: str) -> int:
        """How much a role has done so far; grows in the middle of its work, before it commits."""
        bus = self._deployment.bus
        match role:
            case "router":
                return _end(bus, DELIVERIES)
            case "deliverer":
                return self._receiver.count + _end(bus, VERDICTS)
            case _:
                return sum(1 for _ in self._deployment.archive.list("topics/"))

    def _ended(self, owed: int) -> bool:
        """Whether so many deliveries have a verdict; a repeat may have two."""
        bus = self._deployment.bus
        return _end(bus, VERDICTS) >= owed and owed == len(
            {read_verdict(record.value).delivery for record in read_all(bus, [VERDICTS])}
        )

    def _is_member(self, role: str, process: str) -> bool:
        pid = str(self._processes.pid(process))
        return any(pid in member.split("-") for member in self._deployment.bus.members(role))

    def _seen(
        self,
        what: str,
        condition: Callable[[], bool],
        seconds: float = WORKS_WITHIN,
        every: float = 0.01,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                raise Stuck(f"{what} was not seen within {seconds:.0f} s")
            time.sleep(every)


def _end(bus: Bus, topic: str) -> int:
    return sum(extent.end for extent in bus.extents(topic).values())

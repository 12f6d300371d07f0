"""Drives one deployment: appends events, makes faults and undoes them, and waits at the end until all is delivered."""

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
from heliograph.chaos.faults import FAULTS, Fault, PlannedFault
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import FaultyReceiver
from heliograph.demo.reconcile import read_topics
from producers.edge import Edge
from producers.stream import generate
from schemas.delivery import read_verdict
from schemas.topics import DELIVERIES, VERDICTS

EVENTS_A_TURN = 120
WORKS_WITHIN = 90.0
"""Time limit in seconds for a started role to be seen at work: Kafka notices a dead member after 6 s."""
RESTS_WITHIN = 180.0
"""Time limit in seconds for every delivery to end after the last fault has ended."""
ROOM_BYTES = 64 * 1024
"""Bytes that the bus file may still grow under a process whose disk is full."""
_STREAM, _START_MS = 10_000_000, 1_700_000_000_000

Undo = Callable[[], None]
"""A function that ends a fault."""


class Stuck(Exception):  # noqa: N818 - it names a state
    """An expected step did not happen in time."""


class Driver:
    """Appends events and makes faults, turn by turn.

    `accepted`: events whose append returned; `appended`: monotonic time in seconds at which the append of an event was
    called; `faults`: number of faults by kind. `targets`: number of targets of each event; `broker_pid`: process id of
    the broker that may be paused, 0 for none.
    """

    def __init__(
        self,
        deployment: Deployment,
        processes: Processes,
        receiver: FaultyReceiver,
        *,
        seed: int,
        targets: int,
        broker_pid: int,
    ) -> None:
        self.accepted: list[bytes] = []
        self.appended: dict[bytes, float] = {}
        self.faults = Counter[Fault]()
        self._deployment = deployment
        self._processes = processes
        self._receiver = receiver
        self._targets = targets
        self._broker_pid = broker_pid
        self._edge = Edge(deployment.bus)
        self._events = generate(seed, _STREAM, _START_MS)
        self._lasting: dict[str, tuple[float, Undo]] = {}

    def run_turn(self, planned: PlannedFault) -> None:
        """Appends events, and makes a fault while they are on their way. Raises Stuck."""
        self._undo_ended(planned.component)
        values = list(islice(self._events, EVENTS_A_TURN))
        cut = max(1, round(planned.share * len(values)))
        if planned.fault is Fault.KILL:
            self._wait_until(
                f"a member of {planned.role}",
                lambda: self._is_member(planned.role, planned.component),
                every=0.1,
            )
            before = self._done(planned.role)
            self.emit(values[:cut])
            self._wait_until(f"work of {planned.role}", lambda: self._done(planned.role) > before)
            self.emit(values[cut:])
        else:
            self.emit(values)
        time.sleep(planned.wait)
        self._make(planned)
        if ended := self._processes.ended() - self._lasting.keys():
            raise Stuck(f"process {ended.pop()} ended by itself")

    def emit(self, values: Sequence[bytes]) -> None:
        """Appends events; they are accepted once the append returns. Raises BusError."""
        began = time.monotonic()
        self._edge.submit(values)
        self.accepted += values
        self.appended.update(dict.fromkeys(values, began))

    def wait_for_rest(self) -> None:
        """Undoes lasting faults, waits for every verdict, then lets the archiver finish. Raises Stuck."""
        self._undo(list(self._lasting))
        expected = len(self.accepted) * self._targets
        self._wait_until(
            f"the end of {expected} deliveries", lambda: self._ended(expected), RESTS_WITHIN, every=0.5
        )
        self._processes.kill_all()
        failure = self._processes.run_until_idle()
        if failure:
            raise Stuck(f"heliograph run --until-idle: {failure}")

    def _make(self, planned: PlannedFault) -> None:
        """Makes a fault. Waits for its end if it blocks; otherwise a later turn undoes it."""
        undo = self._begin(planned)
        self.faults[planned.fault] += 1
        if not FAULTS[planned.fault].blocks:
            self._lasting[planned.component] = (time.monotonic() + planned.seconds, undo)
            return
        try:
            time.sleep(planned.seconds)
        finally:
            undo()

    def _begin(self, planned: PlannedFault) -> Undo:
        """Makes a fault; returns the function that undoes it."""
        component, processes = planned.component, self._processes
        undo: Undo
        match planned.fault:
            case Fault.KILL:
                processes.kill(component)
                undo = partial(processes.start, component)
            case Fault.PAUSE:
                processes.signal(component, signal.SIGSTOP)
                undo = partial(processes.signal, component, signal.SIGCONT)
            case Fault.STALL | Fault.REFUSE | Fault.LATE | Fault.DENY:
                self._receiver.set_fault(planned.fault)
                undo = partial(self._receiver.set_fault, None)
            case Fault.FULL_DISK:
                self._restart(component, self._bus_bytes() + ROOM_BYTES)
                undo = partial(self._restart, component)
            case Fault.CLOCK_STEP:
                processes.step_clock(component, planned.step)
                undo = partial(processes.step_clock, component, 0.0)
            case Fault.BROKER_PAUSE:
                os.kill(self._broker_pid, signal.SIGSTOP)
                undo = partial(self._resume_broker, processes.ended())
            case _ as never:
                assert_never(never)
        return undo

    def _undo_ended(self, component: str) -> None:
        """Undoes the faults whose time is over, and the fault of `component`, which the next fault strikes."""
        now = time.monotonic()
        self._undo([each for each, (until, _) in self._lasting.items() if each == component or until <= now])

    def _undo(self, components: Sequence[str]) -> None:
        for component in components:
            _, undo = self._lasting.pop(component)
            undo()

    def _restart(self, name: str, file_limit: int = 0) -> None:
        self._processes.kill(name)
        self._processes.start(name, file_limit)

    def _resume_broker(self, ended_before: Collection[str]) -> None:
        """Resumes the broker and, as a supervisor does, restarts processes that ended because no broker answered."""
        os.kill(self._broker_pid, signal.SIGCONT)
        for name in self._processes.ended() - set(ended_before):
            self._restart(name)

    def _bus_bytes(self) -> int:
        """Returns the size of the file that the embedded bus appends to, its write-ahead log."""
        file = self._deployment.config.home / "bus.db-wal"
        return file.stat().st_size if file.exists() else 0

    def _done(self, role: str) -> int:
        """Returns a number that grows with a role's work, before the role commits."""
        bus = self._deployment.bus
        match role:
            case "router":
                return _end(bus, DELIVERIES)
            case "deliverer":
                return self._receiver.count + _end(bus, VERDICTS)
            case _:
                return sum(1 for _ in self._deployment.archive.list("topics/"))

    def _ended(self, expected: int) -> bool:
        """Returns True if exactly `expected` deliveries have a verdict; a repeat may have two."""
        bus = self._deployment.bus
        return _end(bus, VERDICTS) >= expected and expected == len(
            {read_verdict(record.value).delivery for record in read_topics(bus, [VERDICTS])}
        )

    def _is_member(self, role: str, process: str) -> bool:
        pid = str(self._processes.pid(process))
        return any(pid in member.split("-") for member in self._deployment.bus.members(role))

    def _wait_until(
        self,
        what: str,
        condition: Callable[[], bool],
        seconds: float = WORKS_WITHIN,
        every: float = 0.01,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                raise Stuck(f"{what} did not happen within {seconds:.0f} s")
            time.sleep(every)


def _end(bus: Bus, topic: str) -> int:
    return sum(extent.end for extent in bus.extents(topic).values())

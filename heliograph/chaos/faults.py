"""The table of faults, and the schedule of faults that follows from a seed."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from random import Random
from typing import NamedTuple

from heliograph.app.roles import ROLES

ALL = "all"
PROCESSES = (ALL, *ROLES)
"""Two members of each role: one process with every role, and a process for each role alone."""
RECEIVER, BROKER = "receiver", "broker"


class Fault(enum.StrEnum):
    """Kinds of faults."""

    KILL = "kill"  # SIGKILL in the middle of work, then a new process
    PAUSE = "pause"  # SIGSTOP, and SIGCONT
    STALL = "stall"  # the receiver takes nothing and does not answer
    REFUSE = "refuse"  # the receiver takes every second request only
    LATE = "answer-late"  # the receiver takes a request, and answers after the sender's time limit
    DENY = "deny"  # the receiver takes a request, and answers 500
    FULL_DISK = "full-disk"  # no file of the process can grow
    CLOCK_STEP = "clock-step"  # the wall clock of the process jumps, and jumps back
    BROKER_PAUSE = "broker-pause"  # SIGSTOP, and SIGCONT


class Requirement(enum.Enum):
    """Conditions that a fault needs of the deployment."""

    EMBEDDED_BUS = enum.auto()
    OWN_BROKER = enum.auto()


class FaultPlan(NamedTuple):
    """The plan of a fault.

    `weight`: its share among all faults; `components`: the processes and services that it can strike; `seconds`: its
    shortest and longest duration; `blocks`: True if the driver waits for its end, since a paused process may hold
    locks that all others wait for; `needs`: the requirement that the deployment must meet.
    """

    weight: int
    components: tuple[str, ...]
    seconds: tuple[float, float]
    blocks: bool = False
    needs: Requirement | None = None


FAULTS: Mapping[Fault, FaultPlan] = {
    Fault.KILL: FaultPlan(24, PROCESSES, (0.0, 0.2), blocks=True),
    Fault.PAUSE: FaultPlan(1, PROCESSES, (1.0, 8.0), blocks=True),
    Fault.STALL: FaultPlan(2, (RECEIVER,), (1.0, 3.0)),
    Fault.REFUSE: FaultPlan(1, (RECEIVER,), (1.0, 3.0)),
    Fault.LATE: FaultPlan(1, (RECEIVER,), (1.0, 3.0)),
    Fault.DENY: FaultPlan(1, (RECEIVER,), (1.0, 3.0)),
    Fault.FULL_DISK: FaultPlan(3, PROCESSES, (2.0, 5.0), needs=Requirement.EMBEDDED_BUS),
    Fault.CLOCK_STEP: FaultPlan(2, PROCESSES, (3.0, 9.0)),
    Fault.BROKER_PAUSE: FaultPlan(1, (BROKER,), (2.0, 10.0), blocks=True, needs=Requirement.OWN_BROKER),
}
LONGEST_STEP = 10.0
"""Longest jump of a clock in seconds, forward or back."""


class PlannedFault(NamedTuple):
    """One fault of a schedule.

    `component`: the process or service that it strikes; `seconds`: its duration; `step`: the jump of a clock in
    seconds; `share`: the part of the turn's events that is appended before the role is seen at work; `role`: the role
    whose work a kill interrupts; `wait`: seconds between the last event of the turn and the fault.
    """

    fault: Fault
    component: str
    seconds: float
    step: float
    share: float
    role: str
    wait: float

    def __str__(self) -> str:
        component = f"process {self.component}" if self.component in PROCESSES else self.component
        step = f" by {self.step:+.1f} s" if self.fault is Fault.CLOCK_STEP else ""
        return f"{self.fault} {component}{step} for {self.seconds:.1f} s"


def schedule(seed: int, met: Collection[Requirement]) -> Iterator[PlannedFault]:
    """Yields planned faults without end; equal seeds and met requirements yield equal faults."""
    chance = Random(seed)  # noqa: S311 - must be foreseeable
    possible = [fault for fault, plan in FAULTS.items() if plan.needs is None or plan.needs in met]
    weights = [FAULTS[fault].weight for fault in possible]
    while True:
        (fault,) = chance.choices(possible, weights)
        plan = FAULTS[fault]
        component = chance.choice(plan.components)
        role = chance.choice(tuple(ROLES))
        yield PlannedFault(
            fault=fault,
            component=component,
            seconds=chance.uniform(*plan.seconds),
            step=chance.uniform(-LONGEST_STEP, LONGEST_STEP),
            share=chance.uniform(0.01, 0.99),
            role=component if component in ROLES else role,
            wait=chance.expovariate(10),
        )

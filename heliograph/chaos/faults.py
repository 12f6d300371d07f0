"""The faults there are, as data, and the order in which a seed makes them. Pure."""

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
    """What can be done to a deployment."""

    KILL = "kill"  # SIGKILL in the middle of work; it starts anew
    PAUSE = "pause"  # SIGSTOP, and SIGCONT
    STALL = "stall"  # the receiver takes nothing and does not answer
    REFUSE = "refuse"  # the receiver takes every second only
    LATE = "answer-late"  # the receiver takes it, and says so after the sender's time limit
    DENY = "deny"  # the receiver takes it, and says that it failed
    FULL_DISK = "full-disk"  # no file of the process may grow
    CLOCK_STEP = "clock-step"  # the wall clock of the process jumps, and jumps back
    BROKER_PAUSE = "broker-pause"  # SIGSTOP, and SIGCONT


class Ground(enum.Enum):
    """What a fault needs of the deployment."""

    EMBEDDED = enum.auto()
    OWN_BROKER = enum.auto()


class Kind(NamedTuple):
    """A fault as data. `weight`: how often, among all; `places`: whom it may befall; `seconds`: how long it lasts, from
    and to; `blocks`: whether nothing else is done meanwhile, since what is paused may hold what everybody waits for;
    `needs`: without which it is not made."""

    weight: int
    places: tuple[str, ...]
    seconds: tuple[float, float]
    blocks: bool = False
    needs: Ground | None = None


FAULTS: Mapping[Fault, Kind] = {
    Fault.KILL: Kind(24, PROCESSES, (0.0, 0.2), blocks=True),
    Fault.PAUSE: Kind(1, PROCESSES, (1.0, 8.0), blocks=True),
    Fault.STALL: Kind(2, (RECEIVER,), (1.0, 3.0)),
    Fault.REFUSE: Kind(1, (RECEIVER,), (1.0, 3.0)),
    Fault.LATE: Kind(1, (RECEIVER,), (1.0, 3.0)),
    Fault.DENY: Kind(1, (RECEIVER,), (1.0, 3.0)),
    Fault.FULL_DISK: Kind(3, PROCESSES, (2.0, 5.0), needs=Ground.EMBEDDED),
    Fault.CLOCK_STEP: Kind(2, PROCESSES, (3.0, 9.0)),
    Fault.BROKER_PAUSE: Kind(1, (BROKER,), (2.0, 10.0), blocks=True, needs=Ground.OWN_BROKER),
}
LONGEST_STEP = 10.0
"""Seconds that a clock jumps at most, forth or back."""


class Stroke(NamedTuple):
    """One fault of a schedule. `seconds`: how long it lasts; `step`: seconds by which a clock jumps; `share`: of the
    events of its turn, what is given before its role is seen at work; `role`: the one whose work a kill interrupts;
    `wait`: seconds between the last event of the turn and the fault."""

    fault: Fault
    place: str
    seconds: float
    step: float
    share: float
    role: str
    wait: float

    def __str__(self) -> str:
        whom = f"process {self.place}" if self.place in PROCESSES else self.place
        step = f" by {self.step:+.1f} s" if self.fault is Fault.CLOCK_STEP else ""
        return f"{self.fault} {whom}{step} for {self.seconds:.1f} s"


def schedule(seed: int, grounds: Collection[Ground]) -> Iterator[Stroke]:
    """Faults without end, the same for the same seed and grounds, however long each takes."""
    chance = Random(seed)  # noqa: S311 - must be foreseeable
    possible = [fault for fault, kind in FAULTS.items() if kind.needs is None or kind.needs in grounds]
    weights = [FAULTS[fault].weight for fault in possible]
    while True:
        (fault,) = chance.choices(possible, weights)
        kind = FAULTS[fault]
        place = chance.choice(kind.places)
        role = chance.choice(tuple(ROLES))
        yield Stroke(
            fault,
            place,
            chance.uniform(*kind.seconds),
            chance.uniform(-LONGEST_STEP, LONGEST_STEP),
            chance.uniform(0.01, 0.99),
            place if place in ROLES else role,
            chance.expovariate(10),
        )

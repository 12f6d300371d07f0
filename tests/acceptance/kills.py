"""Kill roles at seeded moments while events flow, then prove that nothing was lost.

Two members of each role are at work: one process with every role, and a process for each role alone. At each turn one of
the four is killed in the middle of work and started again, while the others go on and take over its partitions. The
receiver of callbacks refuses some, so that deliveries wait on the timing wheel meanwhile.

What must hold afterwards: every accepted event is in the log; every delivery that the subscriptions call for has a
verdict; the archive holds each record of the log exactly once and verifies; a repeat carries the same delivery id.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from heliograph.deployment import Deployment
from producers.edge import Edge
from producers.stream import generate
from tests.acceptance.product import Product, Receiver, receiver, until
from tests.acceptance.unlost import check

SUBSCRIPTIONS = """
[[subscription]]
name = "all-called"
[[subscription.target]]
id = "hook"
kind = "callback"
url = "{url}/hook"
batch = 1
retry = {{ tries = 100, first = 0.2, cap = 2.0 }}

[[subscription]]
name = "all-queued"
[[subscription.target]]
id = "queue"
kind = "topic"
topic = "queue"

[[subscription]]
name = "all-stored"
[[subscription.target]]
id = "store"
kind = "object"

[[subscription]]
name = "all-logged"
[[subscription.target]]
id = "logged"
kind = "logs"
project = "soak"
logstore = "events"
"""
TARGETS = 4
EVENTS_A_KILL = 120
REFUSED_EACH = 17
"""Of so many callbacks one is refused."""
ROLES = ("router", "deliverer", "archiver")
BUSY_ARCHIVER = {"HELIOGRAPH_ARCHIVE_SEGMENT_RECORDS": "40", "HELIOGRAPH_ARCHIVE_IDLE_SECONDS": "0.3"}
WORKS_WITHIN = 90.0
"""Seconds within which a role that was started is seen at work: on Kafka a member that died is missed for six."""


class Survived(NamedTuple):
    """What a run of kills came to. `repeats`: callbacks that came again though they had been taken."""

    kills: int
    accepted: int
    deliveries: int
    repeats: int


@dataclass
class _Run:
    product: Product
    deployment: Deployment
    hook: Receiver
    chance: random.Random
    accepted: list[bytes] = field(default_factory=list[bytes])
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    def start(self, name: str) -> None:
        """A role alone, or `all` of them."""
        self.processes[name] = self.product.start("run", *(() if name == "all" else (name,)))

    def emit(self, values: list[bytes]) -> None:
        submitted = Edge(self.deployment.bus).submit(values)
        assert submitted.accepted == len(values), submitted.problems
        self.accepted += values

    def done(self, role: str) -> int:
        """How much a role has done so far; grows in the middle of its work, before it commits."""
        match role:
            case "router":
                return sum(extent.end for extent in self.deployment.bus.extents("deliveries").values())
            case "deliverer":
                return self.hook.count
            case _:
                return sum(1 for _ in self.deployment.archive.list("topics/"))


def survive(home: Path, *, seed: int, kills: int, environment: Mapping[str, str]) -> Survived:
    """Run, emit and kill `kills` times, then come to rest and check. Raises AssertionError with what was lost."""
    with ExitStack() as started:
        product = Product(home, started=started, **BUSY_ARCHIVER, **environment)
        hook = started.enter_context(receiver())
        hook.refuses_each = REFUSED_EACH
        deployment = started.enter_context(product.deployment())
        product.apply(SUBSCRIPTIONS.format(url=hook.url))
        run = _Run(product, deployment, hook, random.Random(seed))
        run.emit(_events(seed, kills))
        for name in ("all", *ROLES):
            run.start(name)
        for turn in range(kills):
            _one_kill(run, _events(seed, turn))
        for process in run.processes.values():
            process.kill()
        product.until_idle()
        deliveries = check(product, deployment, hook, run.accepted, TARGETS)
        repeats = hook.count - hook.refused - len(hook.bodies)
        return Survived(kills, len(run.accepted), deliveries, repeats)


def _events(seed: int, turn: int) -> list[bytes]:
    return list(generate(seed * 10_000 + turn, EVENTS_A_KILL, 1_700_000_000_000 + turn))


def _one_kill(run: _Run, values: list[bytes]) -> None:
    """Kill one process soon after its role is seen at work, with more work just given, and start it again."""
    name = run.chance.choice(("all", *ROLES))
    role = run.chance.choice(ROLES) if name == "all" else name
    victim = run.processes[name]
    cut = run.chance.randrange(1, len(values))
    _seen(run, f"a member of {role}", lambda: _is_member(run.deployment, role, victim.pid))
    before = run.done(role)
    run.emit(values[:cut])
    _seen(run, f"work of {role}", lambda: run.done(role) > before)
    run.emit(values[cut:])
    time.sleep(run.chance.expovariate(10))
    assert victim.poll() is None, f"{name} ended by itself:\n{run.product.log()[-2000:]}"
    victim.kill()
    victim.wait()
    run.start(name)


def _seen(run: _Run, what: str, condition: Callable[[], bool]) -> None:
    try:
        until(condition, WORKS_WITHIN, every=0.01)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}\n{run.product.log()[-4000:]}") from None


def _is_member(deployment: Deployment, role: str, pid: int) -> bool:
    return any(str(pid) in member.split("-") for member in deployment.bus.members(role))

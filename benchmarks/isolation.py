"""Measures how much one slow target, which answers each request after 30 s, affects 99 others.

Rounds with and without the slow target alternate, with all roles on the embedded bus. The slow target has a time limit
of more than 30 s, so that it never fails and its breaker never opens, which is the hardest case. All other settings
have their defaults. Throughput is that of a backlog that exists when the roles start. Latency, from the append to the
receiver, is that of ten events a second that follow, each for all targets.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.receiver import Receiver, identity, receiving
from producers.edge import Edge
from producers.stream import generate
from tests.acceptance.product import Product, until

TARGETS = 100
HANGING = "/0"
HANGS_SECONDS = 30.0
BACKLOG = 1000
SINGLE = 150
PAUSE = 0.1
ROUNDS = 3
TARGET = '[[subscription.target]]\nid = "t{n}"\nkind = "callback"\nurl = "{url}/{n}"\ntimeout = 60\n'


class Measured(NamedTuple):
    """Results for the targets that answer at once: deliveries per second, and the median and the 99th percentile of the
    latency in milliseconds."""

    rate: float
    median: float
    percentile_99: float


class Arrivals:
    """The time at which each event first reached each target that answers at once, by target and event id."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.times: dict[tuple[str, str], float] = {}

    def wait(self, events: int) -> None:
        """Waits until `events` events have reached all these targets."""
        until(lambda: self._count() >= events * (TARGETS - 1), 120, every=0.1)

    def _count(self) -> int:
        for arrival in self._receiver.arrivals():
            if arrival.path != HANGING:
                self.times.setdefault((arrival.path, arrival.id), arrival.at)
        return len(self.times)


def measure(*, hanging: bool) -> Measured:
    """Starts all roles on a backlog, then appends single events. `hanging`: True to include the slow target."""
    events = list(generate(13, BACKLOG + SINGLE, 1_700_000_000_000))
    with (
        tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder,
        receiving(HANGING if hanging else "", HANGS_SECONDS) as receiver,
        closing((product := Product(Path(folder) / "home")).bus()) as bus,
    ):
        targets = "".join(TARGET.format(n=n, url=receiver.url) for n in range(TARGETS))
        product.apply(f'[[subscription]]\nname = "all"\n{targets}')
        edge, arrivals = Edge(bus), Arrivals(receiver)
        edge.submit(events[:BACKLOG])
        roles = product.start("run")
        try:
            arrivals.wait(BACKLOG)
            pile = max(arrivals.times.values()) - min(arrivals.times.values())
            began = {identity(value): _submit(edge, value) for value in events[BACKLOG:]}
            arrivals.wait(BACKLOG + SINGLE)
        finally:
            roles.kill()
            roles.wait()
    waits = [at - began[one] for (_, one), at in arrivals.times.items() if one in began]
    cuts = statistics.quantiles(waits, n=100)
    return Measured(BACKLOG * (TARGETS - 1) / pile, cuts[49] * 1000, cuts[98] * 1000)


def _submit(edge: Edge, value: bytes) -> float:
    """Appends an event and pauses; returns the time before the append."""
    began = time.monotonic()
    edge.submit([value])
    time.sleep(PAUSE)
    return began


def run() -> None:
    """Runs the benchmark and prints its figures."""
    rounds: list[tuple[Measured, Measured]] = []
    for turn in range(ROUNDS):
        first = measure(hanging=turn % 2 == 1)
        second = measure(hanging=turn % 2 == 0)
        rounds.append((second, first) if turn % 2 else (first, second))
    print(
        f"isolation: {TARGETS - 1} callbacks, without one that hangs and with it, medians of {ROUNDS} rounds"
    )
    for place, name in enumerate(("deliveries a second", "latency, median, ms", "latency, 99th, ms")):
        without, beside = (statistics.median(each[which][place] for each in rounds) for which in (0, 1))
        print(f"  {name:<20} {without:10,.1f} {beside:10,.1f}  ratio {beside / without:5.2f}")


if __name__ == "__main__":
    run()

"""One target of ten that never answers, and what the other nine notice of it: the embedded product, with it and without.

Throughput is of a pile of events that lies there when the roles start; latency, from the append to the receiver, of
events that come one at a time.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec

from heliograph.receiver import serving
from producers.edge import Edge
from producers.stream import generate
from tests.acceptance.product import Product, until

TARGETS = 10
HANGING = "/0"
PILE = 400
SINGLE = 100
PAUSE = 0.03
TARGET = '[[subscription.target]]\nid = "t{n}"\nkind = "callback"\nurl = "{url}/{n}"\nbatch = 1\n'


class _Identity(msgspec.Struct):
    id: str


_decode = msgspec.json.Decoder(_Identity).decode


class Arrivals:
    """When each event came to each target that answers, by target and id; `hanging`: one answers nothing."""

    def __init__(self, hanging: bool) -> None:
        self.url = ""
        self.hanging = hanging
        self.times: dict[tuple[str, str], float] = {}
        self.over = threading.Event()


@contextmanager
def arrivals(hanging: bool) -> Generator[Arrivals]:
    """A server of all targets."""
    found = Arrivals(hanging)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == HANGING and found.hanging:
                found.over.wait()
                return
            if self.path != HANGING:
                found.times.setdefault((self.path, _decode(body).id), time.perf_counter())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Figures only."""

    with serving(Handler) as found.url:
        try:
            yield found
        finally:
            found.over.set()


def measure(hanging: bool) -> tuple[float, list[float]]:
    """Deliveries a second to the nine, and seconds from append to arrival of single events at each of them."""
    events = list(generate(13, PILE + SINGLE, 1_700_000_000_000))
    nine = TARGETS - 1
    with (
        tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder,
        arrivals(hanging) as seen,
        closing((product := Product(Path(folder) / "home")).bus()) as bus,
    ):
        targets = "".join(TARGET.format(n=n, url=seen.url) for n in range(TARGETS))
        product.apply(f'[[subscription]]\nname = "all"\n{targets}')
        edge = Edge(bus)
        edge.submit(events[:PILE])
        roles = product.start("run")
        try:
            until(lambda: len(seen.times) == PILE * nine, 240, every=0.01)
            pile = max(seen.times.values()) - min(seen.times.values())
            waits = [wait for value in events[PILE:] for wait in _single(edge, seen, value, nine)]
        finally:
            roles.kill()
            roles.wait()
    return PILE * nine / pile, waits


def _single(edge: Edge, seen: Arrivals, value: bytes, targets: int) -> list[float]:
    before = dict(seen.times)
    began = time.perf_counter()
    edge.submit([value])
    until(lambda: len(seen.times) == len(before) + targets, 60, every=0.001)
    time.sleep(PAUSE)
    return [at - began for place, at in list(seen.times.items()) if place not in before]


def run() -> None:
    """Measure and print."""
    alone, alone_waits = measure(hanging=False)
    beside, beside_waits = measure(hanging=True)
    print(
        f"isolation: {TARGETS} callbacks, the {TARGETS - 1} that answer: without one that hangs, and with it"
    )
    print(f"  deliveries a second    {alone:8.0f} {beside:8.0f}  ratio {beside / alone:5.2f}")
    for name, cut in (("median", 49), ("99th", 98)):
        before, after = (
            statistics.quantiles(waits, n=100)[cut] * 1000 for waits in (alone_waits, beside_waits)
        )
        print(f"  latency, {name:<6}, ms    {before:8.2f} {after:8.2f}  ratio {after / before:5.2f}")


if __name__ == "__main__":
    run()

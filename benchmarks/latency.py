"""Measures the time from an append to the receiver of a callback on an idle embedded bus, beside a bare POST."""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from heliograph.bus.open import open_bus
from producers.edge import Edge
from producers.stream import generate
from tests.acceptance.product import Hook, Product

EVENTS = 200
PAUSE = 0.02
HOOK = '[[subscription]]\nname = "all"\n[[subscription.target]]\nid = "hook"\nkind = "callback"\nurl = "{url}/hook"\n'


def run() -> None:
    """Runs the benchmark and prints its figures."""
    first, *events = generate(11, 1 + EVENTS, 1_700_000_000_000)
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder, Hook() as hook:
        product = Product(Path(folder) / "home")
        product.apply(HOOK.format(url=hook.url))
        roles = product.start("run")
        try:
            bus = open_bus(f"sqlite://{product.home / 'bus.db'}", reserve=0)
            edge = Edge(bus)
            _arrival(hook, partial(edge.submit, [first]))
            through = [_arrival(hook, partial(edge.submit, [value])) for value in events]
            bus.close()
        finally:
            roles.terminate()
            roles.wait()
        connection = http.client.HTTPConnection(urlsplit(hook.url).netloc)
        bare = [_arrival(hook, partial(_post, connection, value)) for value in events]
        connection.close()
    print(f"latency: {EVENTS} events, one at a time, on an idle bus")
    _show("append to receiver", through)
    _show("bare POST", bare)
    print(f"  ratio of the medians   {statistics.median(through) / statistics.median(bare):6.2f}")


def _arrival(hook: Hook, act: Callable[[], object]) -> float:
    """Calls `act`; returns the seconds until the next request has arrived at the receiver."""
    before = hook.count
    began = time.perf_counter()
    act()
    while hook.count == before:
        if time.perf_counter() - began > 10:
            raise TimeoutError("no request arrived at the receiver within ten seconds")
        hook.arrived.wait(0.001)
    took = time.perf_counter() - began
    hook.arrived.clear()
    time.sleep(PAUSE)
    return took


def _post(connection: http.client.HTTPConnection, value: bytes) -> None:
    connection.request("POST", "/bare", value, {"webhook-id": "bare", "Content-Type": "application/json"})
    connection.getresponse().read()


def _show(name: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(f"  {name:<22} median {cuts[49] * 1000:6.2f} ms, 99th {cuts[98] * 1000:6.2f} ms")

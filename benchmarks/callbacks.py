"""Measures the deliverer with one callback target on the embedded bus, beside a bare aiohttp client.

Both send the same bodies with the same headers and concurrency to the same receiver, and read the answers. They run in
turn, each in a process of its own. The deliverer also reads its deliveries from the bus, where the router has appended
them before, and writes a verdict for each. The figure is the work per core: processor seconds of the whole process,
from the first step to the last verdict.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import aiohttp
import structlog
import uvloop

from benchmarks.receiver import receiving
from heliograph.app.deployment import Deployment
from heliograph.app.gc_tuning import collect_seldom
from heliograph.app.roles import roles
from producers.edge import Edge
from producers.stream import generate
from router.events import Router
from schemas.topics import VERDICTS
from tests.acceptance.product import Product

EVENTS = 20_000
ROUNDS = 5
AT_ONCE = 32
SUBSCRIPTION = """
[[subscription]]
name = "all"
[[subscription.target]]
id = "hook"
kind = "callback"
url = "{url}/hook"
concurrency = {at_once}
"""


class Spent(NamedTuple):
    """Time of a measurement: seconds by the clock, and seconds of processor time."""

    wall: float
    processor: float


def bare(url: str, events: list[bytes]) -> Spent:
    """Sends all events with aiohttp alone: one session, workers that share the requests, every answer read to its
    end."""
    collect_seldom()
    return uvloop.run(_bare(url, events))


async def _bare(url: str, events: list[bytes]) -> Spent:
    work = iter(enumerate(events))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        ended = _spent()
        await asyncio.gather(*(_send(session, url, work) for _ in range(AT_ONCE)))
        return ended()


async def _send(session: aiohttp.ClientSession, url: str, work: Iterator[tuple[int, bytes]]) -> None:
    for number, body in work:
        headers = {
            "user-agent": "heliograph",
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "webhook-id": f"{number:032x}",
            "heliograph-source": f"events.ecs.instance:0:{number}",
        }
        async with session.post(url, data=body, headers=headers) as response:
            await response.read()
            assert response.status == 200


def deliver(home: Path, count: int) -> Spent:
    """Runs the deliverer in this thread until `count` deliveries have verdicts."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    collect_seldom()
    with (
        Product(home).deployment() as deployment,
        closing(roles(deployment, ["deliverer"])["deliverer"]()) as role,
    ):
        ended = _spent()
        while _appended(deployment) < count:
            role.step(0.5)
        return ended()


def _appended(deployment: Deployment) -> int:
    return sum(extent.end for extent in deployment.bus.extents(VERDICTS).values())


def _spent() -> Callable[[], Spent]:
    wall, processor = time.perf_counter(), time.process_time()
    return lambda: Spent(time.perf_counter() - wall, time.process_time() - processor)


def prepare(home: Path, url: str, events: list[bytes]) -> None:
    """Creates a bus with a delivery for each event."""
    product = Product(home)
    product.apply(SUBSCRIPTION.format(url=url, at_once=AT_ONCE))
    with product.deployment() as deployment:
        Edge(deployment.bus).submit(events)
        with closing(Router(deployment.bus)) as router:
            while sum(lag.cursor for lag in deployment.bus.lag(router.name).values()) < len(events):
                router.step(0.1)


def _alone(work: Callable[[], Spent]) -> Spent:
    """Calls a function in a new process and returns its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work).result()


def _round(folder: Path, events: list[bytes]) -> tuple[Spent, Spent]:
    with receiving() as receiver:
        prepare(folder / "home", receiver.url, events)
        ours = _alone(partial(deliver, folder / "home", len(events)))
        got = receiver.arrivals()
        assert len({arrival.id for arrival in got}) == len(got) == len(events)
        theirs = _alone(partial(bare, f"{receiver.url}/hook", events))
        assert len(receiver.arrivals()) == len(events)
    return ours, theirs


def run() -> None:
    """Runs the benchmark and prints its figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    events = list(generate(17, EVENTS, 1_700_000_000_000))
    rounds: list[tuple[Spent, Spent]] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
            rounds.append(_round(Path(folder), events))
    print(f"callbacks: {EVENTS:,} events, {AT_ONCE} at once, medians of {ROUNDS} rounds")
    for place, name in enumerate(("deliverer", "bare client")):
        wall, processor = (
            statistics.median(column) for column in zip(*(each[place] for each in rounds), strict=True)
        )
        print(
            f"  {name:<12} {EVENTS / wall:10,.0f} events/s {processor / EVENTS * 1e6:8.1f} µs of processor an event"
        )
    for place, name in enumerate(("by the clock", "per core")):
        ratio = statistics.median(bare[place] / ours[place] for ours, bare in rounds)
        print(f"  ratio {name:<12} {ratio:6.2f}")


if __name__ == "__main__":
    run()

"""Kill `heliograph run` at seeded moments while events flow, then prove that nothing was lost.

What must hold afterwards: every accepted event is in the log; every delivery that the subscriptions call for has a
verdict; the archive holds each record of the log exactly once and verifies; a repeat carries the same delivery id.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from producers.stream import generate
from tests.acceptance.product import Product, Receiver, receiver

SUBSCRIPTIONS = """
[[subscription]]
name = "all-called"
[[subscription.target]]
id = "hook"
kind = "callback"
url = "{url}/hook"
batch = 1

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


class Survived(NamedTuple):
    """What a run of kills came to."""

    kills: int
    accepted: int
    deliveries: int
    repeats: int


def survive(home: Path, *, seed: int, kills: int) -> Survived:
    """Run, emit and kill `kills` times, then come to rest and check. Raises AssertionError with what was lost."""
    chance = random.Random(seed)
    product = Product(home)
    with receiver() as hook:
        product.apply(SUBSCRIPTIONS.format(url=hook.url))
        accepted: list[bytes] = []
        for turn in range(kills):
            accepted += _one_kill(product, chance, seed * 10_000 + turn)
        product.until_idle()
        return _check(product, hook, accepted, kills)


def _one_kill(product: Product, chance: random.Random, seed: int) -> list[bytes]:
    """Start the roles, emit a file, kill the roles at some moment of it; returns what was accepted."""
    values = list(generate(seed, EVENTS_A_KILL, 1_700_000_000_000 + seed * 1000))
    roles = product.start("run")
    try:
        time.sleep(chance.uniform(0.3, 1.2))
        product.do("emit", "--file", "-", feed=b"\n".join(values))
        time.sleep(chance.expovariate(4))
    finally:
        roles.kill()
        roles.wait()
    return values


def _check(product: Product, hook: Receiver, accepted: list[bytes], kills: int) -> Survived:
    events = [row for topic in _event_topics(product) for row in product.rows("tail", topic)]
    assert Counter(row["value"].encode() for row in events) == Counter(accepted), (
        "the log does not hold what it took"
    )
    verdicts = [row for row in product.rows("tail", "verdicts") if row["headers"]["state"] == "delivered"]
    distinct = {row["value"].split('"')[3] for row in verdicts}
    assert len(distinct) == len(accepted) * TARGETS, (
        f"{len(distinct)} deliveries of {len(accepted) * TARGETS} ended"
    )
    for delivery, bodies in hook.bodies.items():
        assert len(set(bodies)) == 1, f"delivery {delivery} came with different bodies"
    assert Counter(bodies[0] for bodies in hook.bodies.values()) == Counter(accepted), (
        "callbacks are not the events"
    )
    assert set(hook.bodies) <= distinct
    _check_archive(product)
    objects = [path.read_bytes() for path in (product.home / "objects").rglob("*.json")]
    assert Counter(objects) == Counter(accepted), "the objects are not the events"
    (logged,) = product.rows("query", "select count(distinct delivery) as n from logs")
    assert logged["n"] == len(accepted), "the log store does not hold the events"
    repeats = sum(len(bodies) - 1 for bodies in hook.bodies.values())
    return Survived(kills, len(accepted), len(distinct), repeats)


def _check_archive(product: Product) -> None:
    archived = Counter(
        (row["topic"], row["partition"], row["offset"]) for row in product.rows("archive", "read")
    )
    assert set(archived.values()) == {1}, "the archive holds a record more than once"
    for topic in (*_event_topics(product), "verdicts", "subscriptions"):
        held = {(row["topic"], row["partition"], row["offset"]) for row in product.rows("tail", topic)}
        assert held == {position for position in archived if position[0] == topic}, (
            f"the archive of {topic} differs"
        )
    product.do("archive", "verify")


def _event_topics(product: Product) -> list[str]:
    return [row["topic"] for row in product.rows("topics") if row["topic"].startswith("events.")]

"""Proof that a run which came to rest has lost nothing, and archived each record once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from archiver.reader import read_records
from heliograph.bus.base import Bus
from heliograph.deployment import Deployment
from schemas.delivery import VerdictState, read_verdict
from schemas.record import Position, Record, TopicPartition
from schemas.topics import ARCHIVED, VERDICTS, matches
from tests.acceptance.product import Product, Receiver


def check(
    product: Product, deployment: Deployment, hook: Receiver, accepted: list[bytes], targets: int
) -> int:
    """Every event has arrived in the log and at each of the `targets`; returns the number of deliveries. Raises
    AssertionError with what is not so."""
    bus = deployment.bus
    log = {topic: list(read(bus, topic)) for topic in bus.topics() if matches(topic, (*ARCHIVED, "queue"))}
    events = Counter(accepted)
    held = Counter(record.value for topic in log if topic.startswith("events.") for record in log[topic])
    assert held == events, "the log does not hold what it took"
    verdicts = [read_verdict(record.value) for record in log[VERDICTS]]
    ended = {verdict.delivery for verdict in verdicts if verdict.state is VerdictState.DELIVERED}
    assert len(ended) == len(accepted) * targets, (
        f"{len(ended)} of {len(accepted) * targets} deliveries ended"
    )
    _check_bodies("callbacks", hook.bodies, events, ended)
    _check_bodies("the queue", _by_delivery(log.pop("queue")), events, ended)
    objects = Counter(deployment.objects.get(info.key) for info in deployment.objects.list("events/"))
    assert objects == events, "the objects are not the events"
    (logged,) = product.rows("query", "select count(distinct delivery) as n from logs")
    assert logged["n"] == len(accepted), "the log store does not hold the events"
    _check_archive(product, deployment, log)
    return len(ended)


def read(bus: Bus, topic: str) -> Iterator[Record]:
    """All that the log holds of a topic, each partition in its order."""
    for partition, extent in bus.extents(topic).items():
        offset = extent.start
        while offset < extent.end:
            polled = bus.read(TopicPartition(*partition), offset)
            assert not polled.gaps, f"{topic} has gaps: {polled.gaps}"
            if polled.records:
                yield from polled.records
                offset = polled.records[-1].offset + 1


def _by_delivery(records: list[Record]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for record in records:
        found[(record.header("delivery") or b"").decode()].append(record.value)
    return found


def _check_bodies(what: str, bodies: dict[str, list[bytes]], events: Counter[bytes], ended: set[str]) -> None:
    """A repeat is a repeat: one delivery has one body."""
    for delivery, each in bodies.items():
        assert len(set(each)) == 1, f"{what}: delivery {delivery} came with different bodies"
    assert Counter(each[0] for each in bodies.values()) == events, f"{what}: not the events"
    assert set(bodies) <= ended, f"{what}: came without a verdict"


def _check_archive(product: Product, deployment: Deployment, log: dict[str, list[Record]]) -> None:
    archived = list(read_records(deployment.archive))
    times = Counter(record.position for record in archived)
    assert set(times.values()) == {1}, f"archived more than once: {_some(times - Counter(set(times)))}"
    logged = {record.position: record for records in log.values() for record in records}
    assert not logged.keys() - times.keys(), f"not archived: {_some(logged.keys() - times.keys())}"
    assert not times.keys() - logged.keys(), (
        f"archived, not in the log: {_some(times.keys() - logged.keys())}"
    )
    assert all(logged[record.position] == record for record in archived), "archived otherwise than logged"
    product.do("archive", "verify")


def _some(positions: Counter[Position] | set[Position]) -> list[str]:
    return sorted(map(str, positions))[:20]

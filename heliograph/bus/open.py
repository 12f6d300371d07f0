"""Chooses the bus by URL: `sqlite:///absolute/path/bus.db`, `memory://`, `kafka://host:port,host:port`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.memory import MemoryBus
from schemas.clock import Clock, SystemClock
from schemas.errors import InvalidConfiguration
from schemas.topics import NAMESPACE

PARTITIONS = 4
"""Partitions of a topic on one machine."""
KAFKA_PARTITIONS = 12
"""Partitions of a topic on Kafka, which is how many members of a group can share it."""
RETENTION = 7 * 86400.0
"""Seconds for which records stay that every known group has finished."""
RESERVE = 256 * 1024 * 1024
"""Bytes of free disk space below which appends are refused, so that commits still fit."""


class _Settings(msgspec.Struct, frozen=True):
    """Settings that do not depend on the kind of bus."""

    partitions: int | None
    namespace: str
    retention: float | None
    reserve: int
    clock: Clock


def open_bus(
    url: str,
    *,
    partitions: int | None = None,
    namespace: str = NAMESPACE,
    retention: float | None = RETENTION,
    reserve: int = RESERVE,
    clock: Clock | None = None,
) -> Bus:
    """Opens the bus that `url` names.

    `partitions`: of a topic that says nothing else; None: 4, on Kafka 12. `namespace`: on Kafka, unless the URL names
    one. `retention`: seconds, None keeps everything. `reserve`: bytes.
    Raises InvalidConfiguration for any other URL, BusUnavailable and BusDamaged as the bus does.
    """
    opener = OPENERS.get(url.partition("://")[0])
    if opener is None:
        raise InvalidConfiguration(
            [
                f"bus.url {url.partition(':')[0]!r}…: begin with one of {', '.join(f'{each}://' for each in OPENERS)}"
            ]
        )
    return opener(url, _Settings(partitions, namespace, retention, reserve, clock or SystemClock()))


def _open_sqlite(url: str, settings: _Settings) -> Bus:
    name = url.removeprefix("sqlite://")
    path = Path(unquote(name))
    if not path.is_absolute() or not path.name or "?" in name or "#" in name:
        raise InvalidConfiguration([f"bus.url {url!r}: write sqlite:///absolute/path/bus.db"])
    from heliograph.bus.sqlite import SqliteBus

    return SqliteBus(
        path,
        partitions=settings.partitions or PARTITIONS,
        retention_seconds=settings.retention,
        reserve_bytes=settings.reserve,
        clock=settings.clock,
    )


def _open_memory(url: str, settings: _Settings) -> Bus:
    if url != "memory://":
        raise InvalidConfiguration([f"bus.url {url!r}: write memory:// and nothing after it"])
    return MemoryBus(settings.clock, settings.partitions or PARTITIONS, retention=settings.retention)


def _open_kafka(url: str, settings: _Settings) -> Bus:
    """Opens Kafka. Messages do not show the URL, since it may hold a password."""
    from heliograph.bus.kafka import KafkaBus
    from heliograph.bus.kafka.connect import connect
    from heliograph.bus.kafka.settings import parse

    kafka = parse(url, settings.namespace)
    return KafkaBus(
        kafka,
        connect(kafka),
        partitions=settings.partitions or KAFKA_PARTITIONS,
        retention=settings.retention,
        clock=settings.clock,
    )


OPENERS: dict[str, Callable[[str, _Settings], Bus]] = {
    "sqlite": _open_sqlite,
    "memory": _open_memory,
    "kafka": _open_kafka,
}
"""Functions that open each kind of bus, by the scheme of its URL."""

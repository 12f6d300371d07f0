"""The bus and stores of the demo and of chaos: in a temporary folder, or under a temporary name on shared services."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from uuid import uuid4

import msgspec

from heliograph.app.config import ArchiveSection, BusSection
from heliograph.bus.kafka.administration import Administration
from heliograph.bus.kafka.settings import parse
from heliograph.store.open import open_store
from schemas.errors import InvalidConfiguration

_REMOVERS = 8
"""Number of objects that are removed at the same time."""


class Backends(msgspec.Struct, frozen=True):
    """Sections of the configuration, and the URL of the store for targets of kind `object`.

    `name`: prefix of all names on shared services; empty if none are used.
    """

    name: str
    bus: BusSection
    archive: ArchiveSection
    objects: str


@contextmanager
def temporary_backends(owner: str, bus: str, archive: str) -> Generator[Backends]:
    """Yields backends on the services that the URLs name, and removes at the end everything created there.

    Without a URL the owner's home is used. Raises InvalidConfiguration if `bus` is not a Kafka URL or `archive`
    not the URL of a store with prefixes.
    """
    name = f"{owner}-{uuid4().hex[:8]}"
    if bus and not bus.startswith("kafka://"):
        raise InvalidConfiguration(
            [f"--bus: write kafka://host:port; without it {owner} runs on a bus in a temporary folder"]
        )
    if bus:
        parse(bus, name)
    store = _below(archive, name) if archive else ""
    try:
        yield Backends(
            name if bus or archive else "",
            BusSection(url=bus, namespace=name),
            ArchiveSection(url=_below(store, "archive") if store else ""),
            _below(store, "objects") if store else "",
        )
    finally:
        if bus:
            with Administration(parse(bus, name)) as administration:
                administration.remove_all()
        if store:
            with closing(open_store(store)) as opened, ThreadPoolExecutor(_REMOVERS) as removers:
                list(removers.map(opened.delete, [found.key for found in opened.list("")]))


def _below(url: str, name: str) -> str:
    """Returns the URL of the prefix `name` in a store."""
    if not url.startswith(("s3://", "file://")):
        raise InvalidConfiguration(["--archive: write s3://bucket/prefix?… or file:///absolute/path"])
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"

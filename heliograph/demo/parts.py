"""What the demo and chaos run on: files of their own, or names of their own on a cluster and in a store that others use
too."""

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
"""Objects that are removed at once."""


class Parts(msgspec.Struct, frozen=True):
    """Sections of the configuration, and the URL of the store for targets of kind `object`. `name`: what everything
    begins with that is made elsewhere than in the borrower's folder; empty if nothing is."""

    name: str
    bus: BusSection
    archive: ArchiveSection
    objects: str


@contextmanager
def borrowed(borrower: str, bus: str, archive: str) -> Generator[Parts]:
    """Parts on what the URLs name, the borrower's own folder where they are empty; what was made is removed at the end.

    Raises InvalidConfiguration for a log that is no cluster or a store that has no prefixes.
    """
    name = f"{borrower}-{uuid4().hex[:8]}"
    if bus and not bus.startswith("kafka://"):
        raise InvalidConfiguration(
            [f"--bus: write kafka://host:port; without it {borrower} makes a log of its own"]
        )
    if bus:
        parse(bus, name)
    store = _below(archive, name) if archive else ""
    try:
        yield Parts(
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
    """The URL of what lies under `name` in a store."""
    if not url.startswith(("s3://", "file://")):
        raise InvalidConfiguration(["--archive: write s3://bucket/prefix?… or file:///absolute/path"])
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"

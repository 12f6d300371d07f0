"""The deployment that chaos breaks: a home of its own, and names of its own on a cluster and in a bucket."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec

from heliograph.chaos.faults import Ground
from heliograph.demo.parts import Parts, borrowed
from heliograph.operations.subscription_file import read_file
from heliograph.testing.receiver import Arrival
from schemas.subscription import Subscription

_EAGER = {
    "HELIOGRAPH_ARCHIVE_SEGMENT_RECORDS": "40",
    "HELIOGRAPH_ARCHIVE_IDLE_SECONDS": "0.3",
    "HELIOGRAPH_BUS_PARTITIONS": "4",
    "HELIOGRAPH_BUS_RESERVE_MB": "0",
    "HELIOGRAPH_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
}
"""Small segments, so that the archiver is at work all the time; few partitions, so that roles meet in each."""

_KEPT = "arrivals.jsonl"


class Place(NamedTuple):
    """Where to run: URLs of a Kafka cluster and of a store, embedded where they are empty, and the process id of the
    broker if it may be paused, else 0."""

    bus: str = ""
    archive: str = ""
    broker_pid: int = 0

    @property
    def grounds(self) -> frozenset[Ground]:
        """What faults may count on."""
        found = set[Ground]()
        if not self.bus:
            found.add(Ground.EMBEDDED)
        if self.broker_pid:
            found.add(Ground.OWN_BROKER)
        return frozenset(found)


class Scratch(NamedTuple):
    """A folder, and the environment of every process that works on the deployment in it."""

    folder: Path
    environment: Mapping[str, str]

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Leave the folder there at the end, with `arrivals.jsonl` in it."""
        encoder = msgspec.json.Encoder()
        (self.folder / _KEPT).write_bytes(encoder.encode_lines(arrivals))


@contextmanager
def scratch(place: Place) -> Generator[Scratch]:
    """A deployment that nobody else knows of. All of it is removed at the end, but for a folder that is kept.

    Raises InvalidConfiguration for URLs on which nothing of one's own can be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="heliograph-chaos-"))
    try:
        with borrowed("chaos", place.bus, place.archive) as parts:
            yield Scratch(folder, _environment(folder / "home", parts))
    finally:
        if not (folder / _KEPT).exists():
            shutil.rmtree(folder)


def subscriptions(url: str) -> Sequence[Subscription]:
    """What is subscribed, with the receiver at `url`."""
    text = (files("heliograph.chaos") / "subscriptions.toml").read_text(encoding="utf-8")
    return read_file(text.replace("RECEIVER", url))


def _environment(home: Path, parts: Parts) -> Mapping[str, str]:
    """This process's, with no setting of its own deployment left in it."""
    settings = {
        "HELIOGRAPH_HOME": str(home),
        "HELIOGRAPH_BUS_URL": parts.bus.url,
        "HELIOGRAPH_BUS_NAMESPACE": parts.bus.namespace,
        "HELIOGRAPH_ARCHIVE_URL": parts.archive.url,
        "HELIOGRAPH_DELIVERY_OBJECTS": parts.objects,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
    return {**others, **_EAGER, **settings}

"""The deployment that chaos breaks: in a temporary home, and under a temporary name on a cluster and in a bucket."""

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

from heliograph.chaos.faults import Requirement
from heliograph.chaos.receiver import REFUSED_TARGET
from heliograph.demo.backends import Backends, temporary_backends
from heliograph.operations.subscription_file import read_file
from heliograph.testing.receiver import Arrival
from schemas.delivery import VerdictState
from schemas.subscription import Subscription

_EAGER = {
    "HELIOGRAPH_ARCHIVE_SEGMENT_RECORDS": "40",
    "HELIOGRAPH_ARCHIVE_IDLE_SECONDS": "0.3",
    "HELIOGRAPH_BUS_PARTITIONS": "4",
    "HELIOGRAPH_BUS_RESERVE_MB": "0",
    "HELIOGRAPH_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
}
"""Small segments keep the archiver at work all the time; few partitions give each of them work of every role."""

_KEPT = "arrivals.jsonl"
ENDINGS: Mapping[str, VerdictState | None] = {REFUSED_TARGET: VerdictState.DEAD}
"""Targets of `subscriptions.toml` whose deliveries do not end as delivered."""


class Services(NamedTuple):
    """The services to run on: URLs of a Kafka cluster and of an object store, and the broker's process id.

    An empty URL stands for the embedded bus or a local folder; without a process id (0) the broker is never paused.
    """

    bus: str = ""
    archive: str = ""
    broker_pid: int = 0

    @property
    def met_requirements(self) -> frozenset[Requirement]:
        """The requirements of faults that these services meet."""
        found = set[Requirement]()
        if not self.bus:
            found.add(Requirement.EMBEDDED_BUS)
        if self.broker_pid:
            found.add(Requirement.OWN_BROKER)
        return frozenset(found)


class ScratchDeployment(NamedTuple):
    """A folder, and the environment of every process that works on the deployment in it."""

    folder: Path
    environment: Mapping[str, str]

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Keeps the folder at the end, with the requests in `arrivals.jsonl`."""
        encoder = msgspec.json.Encoder()
        (self.folder / _KEPT).write_bytes(encoder.encode_lines(arrivals))


@contextmanager
def scratch_deployment(services: Services) -> Generator[ScratchDeployment]:
    """Yields a deployment with names of its own, and removes it at the end, except a folder that `keep` was called for.

    Raises InvalidConfiguration for URLs on which it cannot have names of its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="heliograph-chaos-"))
    try:
        with temporary_backends("chaos", services.bus, services.archive) as backends:
            yield ScratchDeployment(folder, _environment(folder / "home", backends))
    finally:
        if not (folder / _KEPT).exists():
            shutil.rmtree(folder)


def read_subscriptions(url: str) -> Sequence[Subscription]:
    """Reads `subscriptions.toml`, with the receiver at `url`."""
    text = (files("heliograph.chaos") / "subscriptions.toml").read_text(encoding="utf-8")
    return read_file(text.replace("RECEIVER", url))


def _environment(home: Path, backends: Backends) -> Mapping[str, str]:
    """Returns this process's environment with the scratch deployment's settings in place of its own."""
    settings = {
        "HELIOGRAPH_HOME": str(home),
        "HELIOGRAPH_BUS_URL": backends.bus.url,
        "HELIOGRAPH_BUS_NAMESPACE": backends.bus.namespace,
        "HELIOGRAPH_ARCHIVE_URL": backends.archive.url,
        "HELIOGRAPH_DELIVERY_OBJECTS": backends.objects,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
    return {**others, **_EAGER, **settings}

"""`make soak MINUTES=n SEED=n [WHERE=embedded|cluster] [KILLS=n]`: kills for as long as told, or so many; prints what was
survived, stops at the first loss."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.deployed import EMBEDDED, on_cluster
from tests.acceptance.kills import Survived, survive
from tests.services import seaweedfs
from tests.services.kafka import running
from tests.services.s3 import ENVIRONMENT

KILLS_A_ROUND = 20


@contextmanager
def embedded() -> Generator[Callable[[], Mapping[str, str]]]:
    """On one machine."""
    yield lambda: EMBEDDED


@contextmanager
def cluster() -> Generator[Callable[[], Mapping[str, str]]]:
    """On a broker and an S3 server of this run."""
    os.environ.update(ENVIRONMENT)
    with running() as broker:
        store = seaweedfs.run()
        try:
            yield lambda: on_cluster(broker, store)
        finally:
            store.stop()


PLACES = {"embedded": embedded, "cluster": cluster}


def main() -> None:
    """Rounds of kills, each with a seed of its own and a fresh home."""
    arguments = _arguments()
    ends = time.monotonic() + arguments.minutes * 60
    seed, total = arguments.seed, Survived(0, 0, 0, 0)
    with PLACES[arguments.where]() as place:
        while total.kills == 0 or (
            total.kills < arguments.kills if arguments.kills else time.monotonic() < ends
        ):
            began = time.monotonic()
            survived = _round(seed, place())
            total = Survived(*map(sum, zip(total, survived, strict=True)))
            _tell(f"seed {seed}, {time.monotonic() - began:.0f} s", survived)
            seed += 1
    _tell(f"{arguments.where}, all", total)


def _round(seed: int, environment: Mapping[str, str]) -> Survived:
    with tempfile.TemporaryDirectory(prefix="heliograph-soak-") as folder:
        return survive(Path(folder) / "home", seed=seed, kills=KILLS_A_ROUND, environment=environment)


def _tell(what: str, survived: Survived) -> None:
    sys.stdout.write(
        f"{what}: {survived.kills} kills, {survived.accepted} events, {survived.deliveries} deliveries,"
        f" 0 lost, {survived.repeats} repeated callbacks\n"
    )
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for how long to begin rounds")
    parser.add_argument("--kills", type=int, default=0, help="so many, however long it takes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--where", choices=PLACES, default="embedded")
    return parser.parse_args()


if __name__ == "__main__":
    main()

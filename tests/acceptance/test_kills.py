"""`heliograph chaos` on both deployments, in a test's time; `make soak` runs longer.

The seeds give short schedules with every fault that the deployment allows; each process is killed at least twice on the
cluster.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from heliograph.chaos.faults import Fault
from heliograph.store.open import open_store
from tests.acceptance.product import Product
from tests.acceptance.soak import cluster
from tests.services.obtain import Unavailable, unavailable
from tests.services.s3 import ENVIRONMENT

TARGETS = 6


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_nothing_is_lost_on_one_machine(tmp_path: Path) -> None:
    made = run_chaos(Product(tmp_path / "home"), kills=15, seed=1052)
    assert made == set(Fault) - {Fault.BROKER_PAUSE}


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_nothing_is_lost_on_kafka_and_s3_and_all_names_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    try:
        with cluster() as options:
            product = Product(tmp_path / "home", started=None, **ENVIRONMENT)
            made = run_chaos(product, *options, kills=12, seed=97565)
            with closing(open_store(options[-1])) as store:
                assert not list(store.list(""))
    except Unavailable as error:
        unavailable(error)
    else:
        assert made == set(Fault) - {Fault.FULL_DISK}


def run_chaos(product: Product, *options: str, kills: int, seed: int) -> set[str]:
    """Runs chaos, checks its report, and returns the faults made."""
    done = product.call("chaos", "--kills", str(kills), "--seed", str(seed), "--json", *options)
    assert done.returncode == 0, f"{done.stderr.decode()}\n{done.stdout.decode()}"
    report = json.loads(done.stdout)
    assert report["faults"]["kill"] == kills
    assert report["delivered"] + report["dead"] == report["accepted"] * TARGETS
    assert report["latency_ms"].keys() == {"p50", "p90", "p99", "max"}
    assert (report["lost"], report["wrong"]) == (0, [])
    return set(report["faults"])

"""SIGKILL at seeded moments, on both deployments; the long version is `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.deployed import EMBEDDED, on_cluster
from tests.acceptance.kills import TARGETS, survive
from tests.services.kafka import Kafka, kafka
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["kafka", "seaweedfs"]

KILLS = 15


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_nothing_is_lost_on_one_machine_when_roles_are_killed(tmp_path: Path) -> None:
    survived = survive(tmp_path / "home", seed=1, kills=KILLS, environment=EMBEDDED)
    assert survived.kills == KILLS
    assert survived.deliveries == survived.accepted * TARGETS


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_nothing_is_lost_on_kafka_and_s3_when_roles_are_killed(
    tmp_path: Path, kafka: Kafka, seaweedfs: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    environment = on_cluster(kafka, seaweedfs)
    survived = survive(tmp_path / "home", seed=2, kills=KILLS, environment=environment)
    assert survived.kills == KILLS
    assert survived.deliveries == survived.accepted * TARGETS

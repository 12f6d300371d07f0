"""A deployment in memory for tests of operations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    environment = {"HELIOGRAPH_HOME": str(tmp_path / "home"), "HELIOGRAPH_BUS_URL": "memory://"}
    with Deployment(load(environment)) as opened:
        yield opened

"""SIGKILL at seeded moments; the long version is `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.kills import survive


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_when_the_roles_are_killed(tmp_path: Path, seed: int) -> None:
    survived = survive(tmp_path / "home", seed=seed, kills=5)
    assert survived.kills == 5
    assert survived.deliveries == survived.accepted * 4

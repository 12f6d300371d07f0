from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.producers.assistant.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(tmp_path)
    yield found
    found.close()

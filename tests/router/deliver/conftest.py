"""A log in memory whose time is set by hand."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from schemas.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    return MemoryBus(clock)

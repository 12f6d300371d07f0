"""A bus in memory, and an engine on it, whose time is set by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heliograph.bus.memory import MemoryBus
from router.deliver import lanes
from schemas.clock import ManualClock
from tests.router.deliver.engine import Engine


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    return MemoryBus(clock)


@pytest.fixture
def engine(bus: MemoryBus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Closes the roles that a test leaves running, without a long wait for sinks that hang."""
    monkeypatch.setattr(lanes, "CLOSING_SECONDS", 1.0)
    made = Engine(bus, clock)
    yield made
    made.close()

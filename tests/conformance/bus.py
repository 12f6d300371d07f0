"""The suite that every bus inherits. An implementation provides the fixtures of `BusFixtures`, most of them one line:

    class TestMyBus(BusConformance):
        @pytest.fixture
        def bus(self, clock: Clock) -> Iterator[Bus]: ...

The suite does not assume that one poll returns all available records, that a rebalance is instant, or that offsets have
no holes.
"""

from __future__ import annotations

from tests.conformance.bus_groups import GroupConformance
from tests.conformance.bus_sharing import SharingConformance
from tests.conformance.bus_topics import TopicConformance


class BusConformance(TopicConformance, GroupConformance, SharingConformance):
    """Everything that `heliograph/bus/base.py` promises."""

"""The suite that every log inherits. An implementation gives the fixtures of `BusFixtures`, most of them one line:

    class TestMyBus(BusConformance):
        @pytest.fixture
        def bus(self, clock: Clock) -> Iterator[Bus]: ...

Nothing in it assumes that a poll brings at once what is there, that a rebalance is instant, or that offsets have no
holes where records were read from a cursor.
"""

from __future__ import annotations

from tests.conformance.bus_groups import GroupConformance
from tests.conformance.bus_log import LogConformance
from tests.conformance.bus_sharing import SharingConformance


class BusConformance(LogConformance, GroupConformance, SharingConformance):
    """Everything that `heliograph/bus/base.py` promises."""

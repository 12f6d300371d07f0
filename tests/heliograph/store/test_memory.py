import pytest

from heliograph.store.base import ObjectStore
from heliograph.store.memory import MemoryStore
from tests.conformance.store import StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()

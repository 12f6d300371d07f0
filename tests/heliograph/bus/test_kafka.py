"""`KafkaBus` passes the conformance suite through both clients, against a real broker."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from heliograph.bus.base import Bus
from heliograph.bus.kafka import KafkaBus
from heliograph.bus.kafka.connect import connect
from heliograph.bus.kafka.settings import parse
from heliograph.bus.open import open_bus
from schemas.record import TopicPartition
from tests.conformance.bus import BusConformance
from tests.services.kafka import Kafka, kafka

__all__ = ["kafka"]

ROOT = Path(__file__).parents[3]

DIE_WITH_RECORDS = """
import os, signal, sys
from heliograph.bus.open import open_bus

url, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
consumer = open_bus(url).consumer([topic], group)
got = 0
while got < count:
    got += len(consumer.poll(timeout=0.1).records)
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_kafka(url: str) -> KafkaBus:
    return cast("KafkaBus", open_bus(url, partitions=4, retention=3600))


class KafkaConformance(BusConformance):
    client: str

    @pytest.fixture
    def url(self, kafka: Kafka) -> str:
        return f"kafka://{kafka.address}?namespace=n{uuid.uuid4().hex[:12]}&client={self.client}"

    @pytest.fixture
    def bus(self, url: str) -> Iterator[Bus]:
        with closing(open_kafka(url)) as bus:
            yield bus

    @pytest.fixture
    def another_handle(self, bus: Bus, url: str) -> Iterator[Bus]:
        with closing(open_kafka(url)) as other:
            yield other

    @pytest.fixture
    def reopen(self, bus: Bus, url: str) -> Iterator[Callable[[], Bus]]:
        again: list[Bus] = []

        def close_and_open() -> Bus:
            bus.close()
            again.append(open_kafka(url))
            return again[-1]

        yield close_and_open
        for each in again:
            each.close()

    @pytest.fixture
    def truncate(self, url: str) -> Iterator[Callable[[TopicPartition, int], None]]:
        with closing(connect(parse(url))) as connection:
            yield lambda partition, before: connection.delete_before({partition: before})

    @pytest.fixture
    def killed_consumer(self, url: str) -> Callable[[str, str, int], None]:
        def die(topic: str, group: str, count: int) -> None:
            command = [sys.executable, "-c", DIE_WITH_RECORDS, url, topic, group, str(count)]
            assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == -9

        return die


class TestConfluent(KafkaConformance):
    client = "confluent"


class TestPure(KafkaConformance):
    client = "kafka-python"

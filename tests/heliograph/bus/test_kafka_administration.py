"""`Administration` by both Kafka clients, against a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from heliograph.bus.kafka.administration import Administration
from heliograph.bus.kafka.client import NewTopic
from heliograph.bus.kafka.connect import connect
from heliograph.bus.kafka.layout import topic_configs
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings, parse
from heliograph.bus.open import open_bus
from schemas.errors import BusUnavailable
from tests.conformance.bus_driver import Member, events, eventually
from tests.services.kafka import Kafka, kafka

__all__ = ["kafka"]


@pytest.fixture(params=["confluent", "kafka-python"])
def url(request: pytest.FixtureRequest, kafka: Kafka) -> str:
    client = cast("str", request.param)
    return f"kafka://{kafka.address}?client={client}&namespace=n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(url: str) -> KafkaSettings:
    return parse(url)


@pytest.fixture
def administration(settings: KafkaSettings) -> Iterator[Administration]:
    with Administration(settings) as administration:
        yield administration


def test_the_administration_reads_topics_and_their_settings(url: str, administration: Administration) -> None:
    with closing(open_bus(url, partitions=3, retention=60)) as bus:
        bus.append([*events("t", 1), *events("deliveries", 1)])
    assert administration.topics() == {"t": 3, "deliveries": 3, LOG_TOPIC: 1}
    configs = administration.configs(["t", "deliveries"])
    for topic in ("t", "deliveries"):
        assert configs[topic].items() >= topic_configs(topic, 60).items()
    assert administration.configs([]) == {}


def test_checking_a_creation_creates_nothing(administration: Administration) -> None:
    administration.check_creation(NewTopic("t", 2, -1, {"cleanup.policy": "compact"}))
    assert administration.topics() == {}


def test_checking_a_creation_raises_what_the_broker_would_refuse(administration: Administration) -> None:
    with pytest.raises(BusUnavailable, match="fewer brokers than replication"):
        administration.check_creation(NewTopic("t", 2, 3, {}))


def test_removing_all_keeps_other_namespaces_and_groups_with_members(
    url: str, settings: KafkaSettings, kafka: Kafka, administration: Administration
) -> None:
    other = f"kafka://{kafka.address}?namespace=other{uuid.uuid4().hex[:12]}"
    with (
        closing(open_bus(url)) as bus,
        closing(open_bus(other)) as neighbour,
        closing(connect(settings)) as connection,
    ):
        for each in (bus, neighbour):
            each.append(events("t", 1))
            member = Member(each, "t", "gone")
            member.done(member.collect(1))
            member.consumer.close()
        live = Member(bus, "t", "live")
        live.done(live.collect(1))
        administration.remove_all()
        assert connection.groups() == ["live"]
        live.consumer.close()
        administration.remove_all()
        eventually(lambda: not administration.topics())
        assert connection.groups() == []
        assert list(neighbour.topics()) == ["t"]
        assert neighbour.groups() == ["gone"]


def test_removing_all_of_an_empty_namespace_does_nothing(administration: Administration) -> None:
    administration.remove_all()
    assert administration.topics() == {}

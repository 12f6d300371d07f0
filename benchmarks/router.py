"""Measures the router on Kafka, beside a bare loop of the same client: read, decode, filter, write, commit.

Both read notifications of about 519 bytes and write the fifth that one filter matches. The bare loop does the work of a
careful program: it decodes six fields, checks every delivery report and commits each batch. The time starts after the
first batch, so that joining the group does not count.
"""

from __future__ import annotations

import logging
import statistics
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka import TopicPartition as Place
from prometheus_client import REGISTRY

from benchmarks.kafka import BATCH
from heliograph.app.gc_tuning import collect_seldom
from heliograph.bus.base import Bus
from heliograph.bus.kafka import confluent_config, pure
from heliograph.bus.kafka.settings import KafkaSettings, parse
from heliograph.bus.open import open_bus
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.stream import generate
from router.events import Router
from schemas.topics import DELIVERIES, EVENT_TOPICS, ROUTING
from sinks.kinds import KINDS
from tests.services.kafka import running

EVENTS = 50_000
ROUNDS = 3
WANTED = "Disk:*"
SUBSCRIPTION = f"""
[[subscription]]
name = "some"
names = ["{WANTED}"]
[[subscription.target]]
id = "some"
kind = "topic"
topic = "some"
"""

kafka: Any = import_module("kafka")


class Event(msgspec.Struct, rename="camel"):
    """The fields that the bare loop decodes."""

    product: str
    level: str
    name: str
    resource_id: str
    region_id: str
    user_id: str


decode = msgspec.json.Decoder(Event).decode


def wanted(value: bytes) -> bool:
    """Returns True if the filter of the bare loop matches a notification."""
    return fnmatchcase(decode(value).name, WANTED)


def routed(bus: Bus, count: int) -> float:
    """Routes `count` events; returns the events per second of the router."""
    with closing(Router(bus)) as router:

        def step() -> int:
            before = _routed()
            router.step(1.0)
            return _routed() - before

        return _timed(step, count)


def bare_confluent(settings: KafkaSettings, count: int) -> float:
    """Returns the events per second of the bare loop on confluent-kafka."""
    producer = Producer(confluent_config.producer_config(settings))
    consumer = Consumer(
        confluent_config.consumer_config(settings, "bare", "bare")
        | {"auto.offset.reset": "earliest", "enable.partition.eof": False}
    )
    consumer.subscribe([f"^{settings.full('events.')}.*"])
    offsets: list[int] = []

    def report(error: KafkaError | None, message: Message) -> None:
        assert error is None
        offsets.append(message.offset() or 0)

    def step() -> int:
        ends: dict[tuple[Any, Any], int] = {}
        kept = 0
        messages = consumer.consume(BATCH, 0.05)
        for message in messages:
            value: Any = message.value()
            if wanted(value):
                kept += 1
                producer.produce(settings.full("kept"), value, message.key(), on_delivery=report)
            ends[message.topic(), message.partition()] = (message.offset() or 0) + 1
        producer.flush()
        assert len(offsets) == kept
        offsets.clear()
        if ends:
            places = [Place(topic, partition, end) for (topic, partition), end in ends.items()]
            consumer.commit(offsets=places, asynchronous=False)
        return len(messages)

    found = _timed(step, count)
    consumer.close()
    return found


def bare_pure(settings: KafkaSettings, count: int) -> float:
    """Returns the events per second of the bare loop on kafka-python."""
    producer = kafka.KafkaProducer(**pure.producer_config(settings))
    config = pure.consumer_config(settings, "bare") | pure.group_config(settings, "bare")
    consumer = kafka.KafkaConsumer(**config | {"auto_offset_reset": "earliest"})
    consumer.subscribe(pattern=f"^{settings.full('events.')}.*")

    def step() -> int:
        sent: list[Any] = []
        read = 0
        for records in consumer.poll(1000, max_records=BATCH).values():
            read += len(records)
            sent += [
                producer.send(settings.full("kept"), each.value, each.key)
                for each in records
                if wanted(each.value)
            ]
        producer.flush()
        assert all(future.get().offset >= 0 for future in sent)
        consumer.commit()
        return read

    found = _timed(step, count)
    consumer.close()
    producer.close()
    return found


BARE: dict[str, Callable[[KafkaSettings, int], float]] = {
    "confluent": bare_confluent,
    "kafka-python": bare_pure,
}


def _timed(step: Callable[[], int], count: int) -> float:
    """Calls `step` until `count` events are read; returns the events per second after the first batch."""
    first = 0
    while not first:
        first = step()
    began, got = time.perf_counter(), first
    while got < count:
        got += step()
    return (count - first) / (time.perf_counter() - began)


def _routed() -> int:
    """Counts the events that this process has routed so far."""
    values = (
        REGISTRY.get_sample_value("heliograph_routed_total", {"topic": topic}) for topic in EVENT_TOPICS
    )
    return round(sum(value or 0.0 for value in values))


def _round(address: str, client: str, values: list[bytes]) -> dict[str, float]:
    url = f"kafka://{address}?namespace=b{uuid.uuid4().hex[:8]}&client={client}"
    settings = parse(url)
    with closing(open_bus(url, partitions=4)) as bus:
        for topic in ("kept", DELIVERIES, ROUTING):
            bus.create(topic)
        apply(bus, read_file(SUBSCRIPTION), KINDS)
        Edge(bus).submit(values)
        return {
            "router": routed(bus, len(values)),
            "bare loop": BARE[client](settings, len(values)),
        }


def run() -> None:
    """Runs the benchmark and prints its figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    collect_seldom()
    values = list(generate(7, EVENTS, 1_700_000_000_000))
    print(
        f"router: {EVENTS:,} events, {BATCH} a batch, filter {WANTED}, events a second, medians of {ROUNDS} rounds"
    )
    with running() as broker:
        for client in BARE:
            rounds = [_round(broker.address, client, values) for _ in range(ROUNDS)]
            for name in rounds[0]:
                print(f"  {client:<13} {name:<13} {statistics.median(each[name] for each in rounds):12.0f}")
            ratios = [each["router"] / each["bare loop"] for each in rounds]
            print(f"  {client:<13} {'ratio':<13} {statistics.median(ratios):12.2f}")


if __name__ == "__main__":
    run()

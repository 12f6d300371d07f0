"""Measures appends and polls of the bus on Kafka, beside the bare client libraries, in events of 519 bytes per second.

It starts a broker as the tests do. The bare loops do the work of a careful program with the same settings: they check
every delivery report, read all fields of every record, and commit once per batch.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka import TopicPartition as Place

from heliograph.app.gc_tuning import collect_seldom
from heliograph.bus.base import Bus
from heliograph.bus.kafka import confluent_config, pure
from heliograph.bus.kafka.settings import KafkaSettings, parse
from heliograph.bus.open import open_bus
from schemas.record import NewRecord
from tests.services.kafka import running

COUNT = 100_000
BATCH = 5000
VALUE = b"x" * 519
HEADERS = (("heliograph-format", b"1"),)
KEYS = [f"i-{number:04d}".encode() for number in range(1000)]
ROUNDS = 3

kafka: Any = import_module("kafka")


def rate(count: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def append_to_bus(bus: Bus, count: int) -> None:
    for first in range(0, count, BATCH):
        bus.append([NewRecord("t", VALUE, KEYS[n % 1000], HEADERS) for n in range(first, first + BATCH)])


def append_confluent(settings: KafkaSettings, count: int) -> None:
    producer = Producer(confluent_config.producer_config(settings))
    offsets: list[int] = []

    def report(error: KafkaError | None, message: Message) -> None:
        assert error is None
        offsets.append(message.offset() or 0)

    for first in range(0, count, BATCH):
        for n in range(first, first + BATCH):
            producer.produce(
                settings.full("t"), VALUE, KEYS[n % 1000], headers=list(HEADERS), on_delivery=report
            )
        producer.flush()
    assert len(offsets) == count


def append_pure(settings: KafkaSettings, count: int) -> None:
    producer = kafka.KafkaProducer(**pure.producer_config(settings))
    for first in range(0, count, BATCH):
        sent = [
            producer.send(settings.full("t"), VALUE, KEYS[n % 1000], list(HEADERS))
            for n in range(first, first + BATCH)
        ]
        producer.flush()
        assert all(future.get().offset >= 0 for future in sent)
    producer.close()


def poll_from_bus(bus: Bus, count: int) -> None:
    consumer = bus.consumer(["t"], f"g{uuid.uuid4().hex}")
    got = 0
    while got < count:
        records = consumer.poll(BATCH, 1.0).records
        got += len(records)
        consumer.done([record.position for record in records])
    consumer.close()


def poll_confluent(settings: KafkaSettings, count: int) -> None:
    consumer = Consumer(
        confluent_config.consumer_config(settings, f"g{uuid.uuid4().hex}", "bare")
        | {"auto.offset.reset": "earliest", "enable.partition.eof": False}
    )
    consumer.subscribe([settings.full("t")])
    got = 0
    while got < count:
        ends: dict[tuple[Any, Any], int] = {}
        for message in consumer.consume(BATCH, 0.05):
            record = (message.key(), message.headers(), message.value(), message.timestamp())
            ends[message.topic(), message.partition()] = (message.offset() or 0) + 1
            got += len(record) // 4
        if ends:
            places = [Place(topic, partition, end) for (topic, partition), end in ends.items()]
            consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def poll_pure(settings: KafkaSettings, count: int) -> None:
    consumer = kafka.KafkaConsumer(
        settings.full("t"),
        **pure.consumer_config(settings, "bare")
        | pure.group_config(settings, f"g{uuid.uuid4().hex}")
        | {"auto_offset_reset": "earliest"},
    )
    got = 0
    while got < count:
        for records in consumer.poll(1000, max_records=BATCH).values():
            got += len([(each.key, each.headers, each.value, each.timestamp) for each in records])
        consumer.commit()
    consumer.close()


BARE: dict[str, tuple[Callable[[KafkaSettings, int], None], Callable[[KafkaSettings, int], None]]] = {
    "confluent": (append_confluent, poll_confluent),
    "kafka-python": (append_pure, poll_pure),
}


def measure(address: str, count: int) -> dict[str, dict[str, float]]:
    """Returns, by client library, events per second through the bus and with the bare client, the best of several
    rounds, and their ratios."""
    found: dict[str, dict[str, float]] = {}
    for client in BARE:
        rounds = [_round(address, client, count) for _ in range(ROUNDS)]
        best = {name: max(each[name] for each in rounds) for name in rounds[0]}
        for what in ("append", "poll"):
            best[f"{what} ratio"] = best[what] / best[f"bare {what}"]
        found[client] = best
    return found


def _round(address: str, client: str, count: int) -> dict[str, float]:
    bare_append, bare_poll = BARE[client]
    url = f"kafka://{address}?namespace=b{uuid.uuid4().hex[:8]}&client={client}"
    settings = parse(url)
    total = 2 * count
    with closing(open_bus(url, partitions=4)) as bus:
        bus.create("t")
        return {
            "append": rate(count, lambda: append_to_bus(bus, count)),
            "bare append": rate(count, lambda: bare_append(settings, count)),
            "poll": rate(total, lambda: poll_from_bus(bus, total)),
            "bare poll": rate(total, lambda: bare_poll(settings, total)),
        }


def run() -> None:
    """Runs the benchmark and prints its figures."""
    collect_seldom()
    with running() as broker:
        found = measure(broker.address, COUNT)
    print(f"kafka: events of {len(VALUE)} bytes, {BATCH} a batch, events a second")
    for client, figures in found.items():
        for name, figure in figures.items():
            print(f"  {client:<13} {name:<13} {figure:12.2f}")


if __name__ == "__main__":
    run()

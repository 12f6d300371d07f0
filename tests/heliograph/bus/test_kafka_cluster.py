"""Behaviour of `KafkaBus` alone: foreign producers, deleted topics, refusals, several processes, both clients at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from heliograph.bus.base import Extent, Lag
from heliograph.bus.kafka import KafkaBus, consumer
from heliograph.bus.kafka.connect import connect
from heliograph.bus.kafka.settings import parse
from heliograph.bus.open import open_bus
from heliograph.bus.partition import partition_for
from schemas.errors import BusUnavailable, RecordTooLarge
from schemas.record import Gap, NewRecord, TopicPartition
from tests.conformance.bus_driver import Member, events, eventually, settled, values
from tests.conformance.bus_topics import read_all
from tests.services.kafka import Kafka, kafka, running
from tests.services.obtain import Unavailable, unavailable

__all__ = ["kafka"]

ROOT = Path(__file__).parents[3]
NewTopic: Any = import_module("confluent_kafka.admin").NewTopic
ConfigResource: Any = import_module("confluent_kafka.admin").ConfigResource
Open = Callable[..., KafkaBus]

WORK = """
import sys
from heliograph.bus.open import open_bus
from schemas.record import NewRecord
bus = open_bus(sys.argv[1])
consumer = bus.consumer(["t"], "g")
told = False
while True:
    records = consumer.poll(50, 0.05).records
    consumer.done([each.position for each in records], [NewRecord("out", each.value, partition=0) for each in records])
    if consumer.assigned() and not told:
        told = True
        print("ready", flush=True)
"""

SASL = """
listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-256
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="user" password="secret";
"""


@pytest.fixture(params=["confluent", "kafka-python"])
def client(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


@pytest.fixture
def namespace() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def url(kafka: Kafka, namespace: str) -> str:
    return f"kafka://{kafka.address}?namespace={namespace}"


@pytest.fixture
def opened(url: str, client: str) -> Iterator[Open]:
    """Opens the bus through the client under test, or another."""
    with ExitStack() as stack:

        def open_one(by: str = client) -> KafkaBus:
            bus = cast("KafkaBus", open_bus(f"{url}&client={by}", partitions=4, retention=3600))
            stack.callback(bus.close)
            return bus

        yield open_one


@pytest.fixture
def bus(opened: Open) -> KafkaBus:
    return opened()


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.address})


def transaction(kafka: Kafka, topic: str, numbers: range, *, commit: bool) -> None:
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in numbers:
        producer.produce(topic, b"%d" % number, partition=0)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def test_offsets_of_foreign_transactions_are_no_gap(kafka: Kafka, bus: KafkaBus, namespace: str) -> None:
    bus.append(events("t", 2))
    transaction(kafka, f"{namespace}.t", range(2, 5), commit=True)
    transaction(kafka, f"{namespace}.t", range(100, 105), commit=False)
    bus.append(events("t", 1, first=5))
    transaction(kafka, f"{namespace}.t", range(200, 203), commit=False)
    member = Member(bus, "t", "g")
    member.done(member.collect(6))
    assert values(member.records) == values(read_all_with_holes(bus)) == list(range(6))
    assert member.gaps == []
    end = bus.extents("t")[TopicPartition("t", 0)].end
    assert end > 13
    eventually(lambda: bus.lag("g")[TopicPartition("t", 0)] == Lag(end, end), member)
    member.consumer.close()


def read_all_with_holes(bus: KafkaBus) -> list[Any]:
    polled = bus.read(TopicPartition("t", 0), 0)
    assert not polled.gaps
    return list(polled.records)


def test_records_removed_under_a_running_consumer_are_a_gap(bus: KafkaBus, url: str) -> None:
    partition = TopicPartition("t", 0)
    bus.append(events("t", 10))
    member = Member(bus, "t", "g")
    member.collect(10)
    with closing(connect(parse(url))) as connection:
        connection.delete_before({partition: 6})
    member.consumer.seek(partition, 2)
    assert values(member.collect(4)) == [6, 7, 8, 9]
    assert member.gaps == [Gap("t", 0, 2, 6)]
    member.done(member.records)
    assert bus.lag("g")[partition] == Lag(10, 10)
    member.consumer.close()


def test_a_topic_deleted_and_created_again_is_read_from_its_start(
    bus: KafkaBus, admin: AdminClient, namespace: str
) -> None:
    bus.append(events("t", 10))
    member = Member(bus, "t", "g")
    member.done(member.collect(10))
    admin.delete_topics([f"{namespace}.t"])[f"{namespace}.t"].result(30)
    eventually(lambda: "t" not in bus.topics(), member)
    bus.create("t")
    bus.append(events("t", 3, first=50))
    assert values(member.collect(3)) == [50, 51, 52]
    member.done(member.records[-3:])
    assert bus.lag("g")[TopicPartition("t", 0)] == Lag(3, 3)
    member.consumer.close()


def test_each_client_reads_the_records_of_the_other(opened: Open, namespace: str, kafka: Kafka) -> None:
    one, other = opened("confluent"), opened("kafka-python")
    assert one.log_id == other.log_id
    keys = [f"i-{number}".encode() for number in range(20)]
    for bus in (one, other):
        bus.append([NewRecord("t", b"1", key, (("h", b"\x00"),)) for key in keys])
    foreign = Producer({"bootstrap.servers": kafka.address, "partitioner": "murmur2_random"})
    for key in keys:
        foreign.produce(f"{namespace}.t", b"1", key, headers=[("h", None)])
    foreign.flush(30)
    read = read_all(one, "t")
    assert read == read_all(other, "t")
    assert len(read) == 60
    assert all(record.partition == partition_for(record.key or b"", 4) for record in read)
    assert {record.headers for record in read} == {(("h", b"\x00"),), (("h", b""),)}


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_compressed_records_of_a_foreign_producer_are_read(
    bus: KafkaBus, kafka: Kafka, namespace: str, codec: str
) -> None:
    bus.create("t", 1)
    foreign = Producer({"bootstrap.servers": kafka.address, "compression.type": codec})
    for number in range(100):
        foreign.produce(f"{namespace}.t", b"%d" % number, partition=0)
    foreign.flush(30)
    assert values(read_all(bus, "t")) == list(range(100))


def test_the_partitions_of_a_killed_process_move_to_another(bus: KafkaBus, url: str, client: str) -> None:
    bus.create("t")
    bus.create("out", 1)
    command = [sys.executable, "-c", WORK, f"{url}&client={client}"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)) for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        bus.append([NewRecord("t", b"%d" % number, partition=number % 4) for number in range(200)])
        processes[0].send_signal(signal.SIGKILL)
        bus.append([NewRecord("t", b"%d" % number, partition=number % 4) for number in range(200, 400)])
        reader = Member(bus, "out", "reader")
        eventually(lambda: set(values(reader.records)) == set(range(400)), reader)
        reader.consumer.close()


def test_topics_that_do_not_exist_yet_cause_no_log_line(bus: KafkaBus) -> None:
    bus.create("t.a")
    with capture_logs() as logged:
        member = Member(bus, ["t.*", "u.*", "later"], "g")
        eventually(lambda: len(member.consumer.assigned()) == 4, member)
        member.expect_quiet()
    assert logged == []
    member.consumer.close()


def test_topics_created_later_are_read_even_with_the_shortest_waits_in_the_client(
    bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's answer then comes between two waits, which kafka-python alone would forget."""
    monkeypatch.setattr(consumer, "_SLICE", 0.001)
    bus.create("t.a")
    member = Member(bus, "t.*", "g")
    eventually(lambda: len(member.consumer.assigned()) == 4, member)
    bus.append(events("t.b", 1))
    assert values(member.collect(1)) == [0]
    member.consumer.close()


def test_a_hold_and_a_rebalance_meanwhile_lose_no_record_of_a_full_partition(
    bus: KafkaBus, opened: Open
) -> None:
    bus.append(events("t", 9000))
    bus.append(events("t", 10, partition=1, first=9000))
    member = Member(bus, "t", "g")
    eventually(lambda: len(member.consumer.assigned()) == 4, member, limit=1)
    held = TopicPartition("t", 0)
    member.consumer.hold(held, time.monotonic() + 3600)
    eventually(lambda: 9009 in values(member.records), member)
    member.done([record for record in member.records if record.partition == 1])
    member.expect_quiet()
    other = Member(opened(), "t", "g")
    settled(member, other, partitions=4)
    other.consumer.close()
    settled(member, partitions=4)
    member.expect_quiet()
    member.consumer.hold(held, None)
    eventually(lambda: set(values(member.records)) >= set(range(9010)), member)
    own = [record.offset for record in member.records[-8000:] if record.partition == 0]
    assert own == sorted(set(own))
    member.consumer.close()


def test_maintain_removes_old_deliveries_that_every_group_has_finished(
    bus: KafkaBus, url: str, client: str
) -> None:
    partition = TopicPartition("deliveries", 0)
    bus.append([*events("deliveries", 10), *events("t", 10)])
    members = [Member(bus, ["deliveries", "t"], group) for group in ("one", "other")]
    for member, count in zip(members, (8, 5), strict=True):
        member.collect(20)
        member.done([record for record in member.records if record.offset < count])
    bus.maintain()
    assert bus.extents("deliveries")[partition] == Extent(0, 10)
    time.sleep(1.1)
    with closing(open_bus(f"{url}&client={client}", retention=1)) as impatient:
        impatient.maintain()
    assert bus.extents("deliveries")[partition] == Extent(5, 10)
    assert bus.extents("t")[TopicPartition("t", 0)] == Extent(0, 10)
    for member in members:
        member.consumer.close()


def test_new_topics_get_their_settings_on_the_broker(
    bus: KafkaBus, admin: AdminClient, namespace: str
) -> None:
    bus.append([NewRecord("state", b"1", b"k"), *events("retries.4s", 1), *events("subscriptions", 1)])

    def configs(topic: str) -> dict[str, str]:
        resource = ConfigResource("topic", f"{namespace}.{topic}")
        found = cast("dict[str, Any]", cast("Any", admin).describe_configs([resource])[resource].result(30))
        return {name: entry.value for name, entry in found.items()}

    assert configs("state")["cleanup.policy"] == "compact"
    assert configs("retries.4s")["retention.ms"] == configs("subscriptions")["retention.ms"] == "-1"
    assert configs("retries.4s")["message.timestamp.type"] == "LogAppendTime"
    assert len(bus.extents("subscriptions")) == 1


def test_a_record_above_the_limit_of_its_topic_raises_record_too_large(
    bus: KafkaBus, admin: AdminClient, namespace: str
) -> None:
    name = f"{namespace}.t"
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "1000"})])[name].result(30)
    with pytest.raises(RecordTooLarge, match=r"max\.message\.bytes"):
        bus.append([NewRecord("t", os.urandom(5000))])
    assert len(bus.append([NewRecord("t", b"small")])) == 1


def test_an_empty_value_becomes_null_in_a_compacted_topic_only(
    bus: KafkaBus, kafka: Kafka, namespace: str
) -> None:
    bus.append([NewRecord("state", b"", b"k", partition=0), NewRecord("t", b"", b"k", partition=0)])
    foreign = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": "foreign", "auto.offset.reset": "earliest"}
    )
    foreign.assign([Place(f"{namespace}.{topic}", 0, 0) for topic in ("state", "t")])
    messages = [*foreign.consume(2, 30)]
    foreign.close()
    assert {message.topic(): message.value() for message in messages} == {
        f"{namespace}.state": None,
        f"{namespace}.t": b"",
    }
    assert [record.value for record in bus.read(TopicPartition("state", 0), 0).records] == [b""]


def test_more_replicas_than_brokers_raise_bus_unavailable(url: str, client: str) -> None:
    with pytest.raises(BusUnavailable, match="replication"):
        open_bus(f"{url}&client={client}&replication=3")


def test_buses_opened_at_once_on_a_new_namespace_agree_on_the_log_id(opened: Open) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = {each.result().log_id for each in [pool.submit(opened) for _ in range(4)]}
    assert len(ids) == 1


def test_an_answer_from_before_a_topic_was_created_does_not_replace_a_later_one(
    bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: Any = bus
    original = inside._connection.topics
    asked, released = threading.Event(), threading.Event()

    def answer_late() -> Mapping[str, int]:
        answer: Mapping[str, int] = original()
        asked.set()
        released.wait(30)
        return answer

    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(inside._connection, "topics", answer_late)
            asking = pool.submit(inside._known, fresh=True)
            assert asked.wait(30)
        bus.create("new")
        released.set()
        asking.result()
    assert "new" in inside._known()


def test_a_wrong_password_is_refused_and_the_right_one_accepted(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    monkeypatch.setenv("WRONG_PASSWORD", "hunter2")
    try:
        with running(SASL) as broker:
            base = f"kafka://{broker.address}?client={client}&sasl=SCRAM-SHA-256&username=user"
            with pytest.raises(BusUnavailable, match="refuses the login") as caught:
                open_bus(f"{base}&password=env:WRONG_PASSWORD")
            assert "hunter2" not in str(caught.value)
            with closing(open_bus(f"{base}&password=env:KAFKA_PASSWORD")) as bus:
                bus.append(events("t", 3))
                assert values(read_all(bus, "t")) == [0, 1, 2]
    except Unavailable as error:
        unavailable(error)

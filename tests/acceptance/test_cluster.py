"""The product on a real Kafka and a real bucket: sharing and taking over of partitions, other clients, the commands."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from archiver.maintain.compaction import CompactionPolicy, compact
from archiver.read.survey import find_topics
from heliograph.bus.kafka.administration import Administration
from heliograph.bus.kafka.settings import KafkaSettings, parse
from heliograph.demo.reconcile import read_topics
from heliograph.operations.deliveries import reduce_verdicts
from heliograph.store.open import open_store
from producers.stream import generate
from schemas.clock import ManualClock, SystemClock
from schemas.delivery import VerdictState, read_verdict
from schemas.notification import check
from schemas.topics import VERDICTS
from tests.acceptance.deployed import on_cluster
from tests.acceptance.product import Product, until
from tests.services.kafka import Kafka, kafka
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["kafka", "seaweedfs"]

pytestmark = pytest.mark.xdist_group("cluster")

MOVED_WITHIN = 30.0
"""Limit in seconds on a busy machine; the documented one is 15 s."""
ROLES = ("router", "deliverer", "archiver")
GROUPS = ("router", "deliverer", "wheel", "archiver")
TRIES = 4
APPLIED = f"""
[[subscription]]
name = "everything"
[[subscription.target]]
id = "queue"
kind = "topic"
topic = "queue"

[[subscription]]
name = "some-to-nobody"
resources = {{ ids = ["i-unlucky"] }}
[[subscription.target]]
id = "nobody"
kind = "callback"
url = "http://127.0.0.1:1/nobody-listens"
retry = {{ tries = {TRIES}, first = 5, factor = 1, cap = 5, jitter = false }}
"""
COUNT = "select count(*) as events, count(distinct id) as ids, min(eventTime) as first from events"


class Cluster(Product):
    """The product on Kafka and S3."""

    def __init__(self, home: Path, started: ExitStack, environment: dict[str, str]) -> None:
        super().__init__(home, started=started, **environment)
        self.environment = environment

    @property
    def kafka(self) -> KafkaSettings:
        """The Kafka settings of the product."""
        return parse(self.environment["HELIOGRAPH_BUS_URL"])

    def full(self, topic: str) -> str:
        """Returns the name of a topic on the broker."""
        return self.kafka.full(topic)

    def members_of(self, groups: Sequence[str]) -> set[int]:
        """Counts the members of each group."""
        with closing(self.deployment().bus) as bus:
            return {len(bus.members(group)) for group in groups}

    def ended(self) -> dict[str, Any]:
        """Returns the verdict of each delivery."""
        with closing(self.deployment().bus) as bus:
            return dict(
                reduce_verdicts(read_verdict(record.value) for record in read_topics(bus, [VERDICTS]))
            )


@pytest.fixture
def product(
    tmp_path: Path, kafka: Kafka, seaweedfs: Service, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as started:
        yield Cluster(tmp_path / "home", started, dict(on_cluster(kafka, seaweedfs)))


@pytest.mark.timeout(240)
def test_a_member_of_each_role_is_killed_and_nothing_is_lost(product: Cluster) -> None:
    product.apply(APPLIED)
    values = list(generate(7, 400, SystemClock().now()))
    product.do("emit", "--file", "-", feed=b"\n".join(values[:200]))
    first = [product.start("run", role) for role in ROLES]
    second = [product.start("run", role) for role in ROLES]
    until(lambda: product.members_of(ROLES) == {2})
    for state in ("Running", "Stopped"):
        product.do("emit", "Instance:StateChange", "--resource", "i-unlucky", "--content", f"state={state}")
    until(lambda: product.members_of(GROUPS) == {2})
    for process in first:
        process.kill()
        process.wait()
    product.do("emit", "--file", "-", feed=b"\n".join(values[200:]))
    until(lambda: product.members_of(GROUPS) == {1}, MOVED_WITHIN)
    until(lambda: _queued(product) == 402, MOVED_WITHIN)
    until(lambda: len(product.ended()) == 404)
    for process in second:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in second] == [0, 0, 0]
    product.until_idle()
    _check_unlost(product, values)
    _check_commands(product)


def _queued(product: Cluster) -> int:
    with closing(product.deployment().bus) as bus:
        return len({record.header("delivery") for record in read_topics(bus, ["queue"])})


def _check_unlost(product: Cluster, values: list[bytes]) -> None:
    verdicts = product.ended().values()
    assert Counter((one.target, str(one.state)) for one in verdicts) == {
        ("queue", "delivered"): 402,
        ("nobody", "dead"): 2,
    }
    assert {one.attempts.count for one in verdicts if one.state is VerdictState.DEAD} == {TRIES}
    with closing(product.deployment().bus) as bus:
        by_delivery = {record.header("delivery"): record.value for record in read_topics(bus, ["queue"])}
    assert set(values) <= set(by_delivery.values())
    archived = [row for row in product.rows("archive", "read") if row["topic"].startswith("events.")]
    assert len({(row["topic"], row["partition"], row["offset"]) for row in archived}) == len(archived) == 402


def _check_commands(product: Cluster) -> None:
    topics = {row["topic"]: row for row in product.rows("topics")}
    assert topics["deliveries"]["partitions"] == 4
    assert sum(row["appended"] for name, row in topics.items() if name.startswith("events.")) == 402
    assert {row["lag"] for row in product.rows("lag")} == {0}
    assert product.do("archive", "verify").startswith("archive verified")
    (answer,) = product.rows("query", COUNT)
    assert (answer["events"], answer["ids"]) == (402, 402)
    states = Counter(row["state"] for row in product.rows("doctor"))
    assert states == {"ok": states.total()}
    _compact(product)
    assert product.do("archive", "verify").startswith("archive verified")
    assert product.rows("query", COUNT) == [answer]


def _compact(product: Cluster) -> None:
    """Compacts with a clock two days ahead, since a day is only compacted after its end."""
    with product.deployment() as parts:
        clock = ManualClock(SystemClock().now() + 2 * 86_400_000)
        done = [
            day.records
            for topic in find_topics(parts.archive, "events.*")
            for day in compact(parts.archive, clock, topic, CompactionPolicy())
        ]
        assert 0 < sum(done) <= 402


def test_other_kafka_clients_produce_and_consume(product: Cluster, kafka: Kafka) -> None:
    product.apply(APPLIED)
    (value,) = generate(1, 1, SystemClock().now())
    resource = check(value).resource_id.encode()
    product.do("topics")
    with closing(product.deployment().bus) as bus:
        bus.create("events.ecs.instance")
    producer = Producer({"bootstrap.servers": kafka.address})
    for each in (value, b"no notification", b'{"level":"LOUD"}'):
        producer.produce(product.full("events.ecs.instance"), each, b"anything")
    assert producer.flush(30) == 0
    product.until_idle()
    assert Counter(row["value"] for row in product.rows("tail", "rejects")) == {
        "no notification": 1,
        '{"level":"LOUD"}': 1,
    }
    consumer = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": product.full("x"), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([product.full("queue")])
    try:
        (message,) = consumer.consume(1, 30)
    finally:
        consumer.close()
    assert (message.value(), message.key()) == (value, resource)
    headers: Any = message.headers()
    assert {"delivery", "source", "subscription", "event-time"} <= dict(headers).keys()


def test_doctor_and_the_topic_plan_check_the_retention_of_topics(
    product: Cluster, tmp_path: Path, kafka: Kafka
) -> None:
    product.emit()
    product.apply(APPLIED)
    environment = {**product.environment, "HELIOGRAPH_BUS_RETENTION_HOURS": "720"}
    longer = Product(tmp_path / "home", started=None, **environment)
    checks = {row["check"]: row for row in longer.rows("doctor")}
    assert checks["topic events.ecs.instance"]["state"] == "warning"
    assert "retention.ms=604800000" in checks["topic events.ecs.instance"]["detail"]
    assert "--add-config retention.ms=2592000000" in checks["topic events.ecs.instance"]["detail"]
    assert "topic subscriptions" not in checks
    planned = {row["topic"]: row for row in longer.rows("topics", "--plan") if "topic" in row}
    assert "retention.ms=2592000000" in planned[product.full("events.ecs.instance")]["settings"]
    with Administration(product.kafka) as administration:
        (configs,) = administration.configs(["events.ecs.instance"]).values()
    assert configs["retention.ms"] == "604800000"


def test_a_router_needs_neither_an_archive_nor_a_home(product: Cluster) -> None:
    bus_only = {name: each for name, each in product.environment.items() if name.startswith("HELIOGRAPH_BUS")}
    alone = Product(Path("/proc/no-home"), started=None, **bus_only)
    product.apply(APPLIED)
    product.emit()
    assert alone.do("run", "router", "--until-idle") == ""
    assert product.count("deliveries") == 1


def test_the_demo_runs_on_kafka_and_s3_and_removes_all_it_made(product: Cluster, kafka: Kafka) -> None:
    archive = product.environment["HELIOGRAPH_ARCHIVE_URL"]
    shown = product.do("demo", "--events", "40", "--bus", f"kafka://{kafka.address}", "--archive", archive)
    assert shown.count("holds") == 5
    (name,) = set(re.findall(r"everything named (demo-\w+)", shown))
    with Administration(parse(f"kafka://{kafka.address}", name)) as administration:
        until(lambda: not administration.topics())
    with closing(open_store(archive)) as store:
        assert not list(store.list("demo-"))
    refused = product.call("demo", "--bus", "sqlite:///tmp/bus.db")
    assert (refused.returncode, refused.stderr.count(b"--bus")) == (2, 1)


def test_a_cluster_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    product = Product(tmp_path / "home", HELIOGRAPH_BUS_URL="kafka://127.0.0.1:1")
    done: subprocess.CompletedProcess[bytes] = product.call("doctor", "--json")
    assert done.returncode == 1
    failed = {
        row["check"]: row["detail"]
        for row in map(json.loads, done.stdout.splitlines())
        if row["state"] == "failed"
    }
    assert set(failed) == {"broker 127.0.0.1:1", "bus"}
    assert all("correct bus.url" in detail or "check the servers" in detail for detail in failed.values())

"""Execution records end to end, under kills and on a cluster: each run is stored once, and found in every store."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from confluent_kafka import Producer

from heliograph.store.open import open_store
from schemas.record import NewRecord
from tests.acceptance.deployed import on_cluster
from tests.acceptance.product import Product, until
from tests.executions import command
from tests.services.kafka import Kafka, kafka
from tests.services.minio import minio
from tests.services.s3 import ENVIRONMENT, Service

__all__ = ["kafka", "minio"]

INSTANCES = 3
RUNS = 40
KILLS = 4
SETTINGS = ("assistant", "delivery", "set", "cn-hangzhou", "--prefix", "audit")
LOGS = ("--project", "operations", "--logstore", "executions")


def run_of(instance: int, number: int) -> bytes:
    """Returns the record of one repeat of a command."""
    return command(
        instance, InvokeId="t-1", Repeats=number, RepeatMode="Period", Output=f"{instance} {number}"
    )


def expected() -> dict[str, bytes]:
    """Returns the keys of all expected objects."""
    folder = "audit/invocationResults/t-1"
    records = {
        f"{folder}/i-{instance}/{number}.json": run_of(instance, number)
        for instance in range(INSTANCES)
        for number in range(1, RUNS + 1)
    }
    return {f"{folder}/commandContent.sh": b"hostname", **records}


def check(product: Product, url: str) -> None:
    """Checks that object store, archive and log store hold each run once, and that every delivery was delivered."""
    with closing(open_store(url)) as store:
        assert {info.key: store.get(info.key) for info in store.list("")} == expected()
    for view in ("executions", "execution_logs"):
        (counted,) = product.rows("query", f"select count(*) as n, count(distinct Output) as d from {view}")
        assert counted == {"n": INSTANCES * RUNS, "d": INSTANCES * RUNS}, view
    assert {row["state"] for row in product.rows("deliveries", "list")} == {"delivered"}


@pytest.mark.timeout(240)
def test_each_run_is_stored_once_when_roles_are_killed(tmp_path: Path) -> None:
    chance = random.Random(6)
    bucket = (tmp_path / "bucket").as_uri()
    with ExitStack() as started:
        product = Product(tmp_path / "home", started=started)
        product.do(*SETTINGS, "--bucket", bucket, *LOGS)
        slices = [range(start, RUNS + 1, KILLS) for start in range(1, KILLS + 1)]
        for numbers in slices:
            roles = product.start("run")
            until(lambda: product.members("executions"))
            with closing(product.bus()) as bus:
                for number in numbers:
                    records = [
                        NewRecord("executions", run_of(one, number), b"i-%d" % one)
                        for one in range(INSTANCES)
                    ]
                    bus.append(records)
                    bus.append(records[:1])  # the agent was killed before it learned that this was appended
            time.sleep(chance.uniform(0.0, 0.3))
            roles.kill()
            roles.wait()
        product.until_idle()
    check(product, bucket)


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("cluster")
def test_records_of_other_kafka_clients_reach_a_bucket(
    tmp_path: Path, kafka: Kafka, minio: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    environment = on_cluster(kafka, minio)
    bucket = minio.url(minio.bucket())
    product = Product(tmp_path / "home", started=None, **environment)
    product.do(*SETTINGS, "--bucket", bucket, *LOGS)
    namespace = environment["HELIOGRAPH_BUS_URL"].rpartition("=")[2]
    producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True})
    refused: list[object] = []

    def keep_error(error: object, _: object) -> None:
        refused.extend([error] if error else [])

    records = [
        (run_of(one, number), b"i-%d" % one) for number in range(1, RUNS + 1) for one in range(INSTANCES)
    ]
    for body, key in (*records, (b"{}", b"nobody")):
        producer.produce(f"{namespace}.executions", body, key, on_delivery=keep_error)
    assert producer.flush(30) == 0
    assert refused == []
    product.until_idle()
    check(product, bucket)
    (rejected,) = product.rows("tail", "rejects")
    assert "has neither CommandId nor FileName" in str(rejected)

"""Repeated commands while agents and roles are killed at seeded moments: each run is recorded once."""

from __future__ import annotations

import random
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from producers.assistant.caller import Caller
from producers.assistant.requests import Command, Run
from producers.assistant.signing import open_keys
from schemas.clock import SystemClock
from schemas.execution import CommandRecord, CommandType, Key, RecordState, RepeatMode, check_execution
from schemas.record import TopicPartition
from schemas.topics import COMMANDS, EXECUTIONS
from tests.acceptance.product import Product, until
from tests.acceptance.quick_agent import QuickClock
from tests.producers.assistant.fleet import QUOTAS
from tests.services.kafka import Kafka, kafka

__all__ = ["kafka"]

INSTANCES = ("i-1", "i-2")
KILLS = 8
ARCHIVER = {"HELIOGRAPH_ARCHIVE_SEGMENT_RECORDS": "5", "HELIOGRAPH_ARCHIVE_IDLE_SECONDS": "0.3"}


def start_agent(product: Product, instance: str, clock: QuickClock) -> subprocess.Popen[bytes]:
    return product.start_module("tests.acceptance.quick_agent", instance, str(clock.origin))


@contextmanager
def caller(product: Product, clock: QuickClock) -> Generator[Caller]:
    with product.deployment(clock) as deployment:
        deployment.bus.create(COMMANDS)
        keys = open_keys(deployment.config.assistant_keys, deployment.bus.log_id)
        yield Caller(
            bus=deployment.bus, keys=keys, clock=deployment.clock, region="cn-hangzhou", uid=7, quotas=QUOTAS
        )


def ask_for_a_schedule(product: Product, clock: QuickClock, tokens: Path) -> Run:
    script = f"cat /proc/sys/kernel/random/uuid | tee -a {tokens}; sleep 0.$(($$ % 3))"
    command = Command(command_id="c-1", name="token", type=CommandType.SHELL, content=script, timeout=10)
    with caller(product, clock) as calling:
        (asked,) = calling.run(
            command, INSTANCES, parameters={}, mode=RepeatMode.PERIOD, frequency="0/10 * * * * ?"
        )
    return asked


def final_records(product: Product) -> list[CommandRecord]:
    with product.deployment() as deployment:
        bus = deployment.bus
        values = [
            record.value
            for partition in bus.extents(EXECUTIONS)
            for record in bus.read(TopicPartition(*partition), 0).records
        ]
    found = [check_execution(value) for value in values]
    return [one for one in found if isinstance(one, CommandRecord) and one.invocation_status.final]


def outputs(records: Sequence[CommandRecord]) -> dict[Key, str]:
    """Returns the output of each run that succeeded."""
    return {one.key: one.output.strip() for one in records if one.invocation_status is RecordState.SUCCESS}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_each_repeat_of_a_command_is_recorded_once_under_kills(tmp_path: Path, seed: int) -> None:
    chance, tokens, results = random.Random(seed), tmp_path / "tokens", tmp_path / "results"
    clock = QuickClock(SystemClock().now())
    with ExitStack() as started:
        product = Product(tmp_path / "home", started=started, TMPDIR=str(tmp_path), **ARCHIVER)
        product.do("assistant", "key")
        product.do("assistant", "delivery", "set", "cn-hangzhou", "--bucket", results.as_uri())
        running = {instance: start_agent(product, instance, clock) for instance in INSTANCES}
        running["roles"] = product.start("run")
        until(lambda: product.log().count("the agent is ready") == len(INSTANCES))
        asked = ask_for_a_schedule(product, clock, tokens)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.4, 1.6))
            name = chance.choice(list(running))
            with running[name] as process:
                process.kill()
            running[name] = product.start("run") if name == "roles" else start_agent(product, name, clock)
        before = len(outputs(final_records(product)))
        until(lambda: len(outputs(final_records(product))) > before + 2)
        with caller(product, clock) as calling:
            calling.stop(asked)
        until(lambda: stopped(product) == set(INSTANCES))
    Product(tmp_path / "home", started=None, **ARCHIVER).until_idle()
    check_records(product, asked.invoke_id, tokens, results)


def stopped(product: Product) -> set[str]:
    """Returns the instances with a stopped run; a run that ended by itself at that moment has a stop time too."""
    return {one.instance_id for one in final_records(product) if one.stop_time}


def check_records(product: Product, execution: str, tokens: Path, results: Path) -> None:
    """Checks that each number is there once for each instance, on the bus and in the bucket, and that each successful run
    was begun once."""
    records = final_records(product)
    folder = results / "invocationResults" / execution
    for instance in INSTANCES:
        encoded = {one.key.repeats: one.encode() for one in records if one.instance_id == instance}
        assert sorted(encoded) == list(range(1, len(encoded) + 1))
        stored = {int(path.stem): path.read_bytes() for path in (folder / instance).glob("*.json")}
        assert stored == encoded
    assert len({(one.key, one.encode()) for one in records}) == len({one.key for one in records})
    begun = Counter(tokens.read_text().splitlines())
    succeeded = outputs(records)
    interrupted = {one.key for one in records} - succeeded.keys()
    assert begun.most_common(1)[0][1] == 1
    assert len(set(succeeded.values())) == len(succeeded)
    assert begun.keys() >= set(succeeded.values())
    assert len(begun) - len(succeeded) <= len(interrupted)
    assert product.do("archive", "verify")
    archived = product.rows("archive", "read", EXECUTIONS)
    assert len(archived) == product.count(EXECUTIONS)


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("cluster")
def test_agents_work_on_a_cluster(tmp_path: Path, kafka: Kafka) -> None:
    """Uses homes that share a bus and a key, as on several machines."""
    url = f"kafka://{kafka.address}?namespace=n{uuid.uuid4().hex[:8]}"
    shared = {"HELIOGRAPH_BUS_URL": url, "HELIOGRAPH_ASSISTANT_KEYS": f"file:{tmp_path}/key"}
    with ExitStack() as started:
        caller, *hosts = (
            Product(tmp_path / name, started=started, **shared) for name in ("caller", *INSTANCES)
        )
        caller.do("assistant", "key")
        for host, instance in zip(hosts, INSTANCES, strict=True):
            host.start("assistant", "agent", "--instance-id", instance)
        until(lambda: hosts[0].log().count("the agent is ready") == len(INSTANCES))
        words = [word for instance in INSTANCES for word in ("--instance", instance)]
        rows = caller.rows("assistant", "run", "echo $HELIOGRAPH_RUN", *words)
        assert [row["state"] for row in rows] == ["Success"] * len(INSTANCES)
        assert len({row["output"] for row in rows}) == len(INSTANCES)
        sent = caller.rows(
            "assistant", "send-file", f"{tmp_path}/key", "--to", f"{tmp_path}/sent", *words[:2]
        )
        assert [row["state"] for row in sent] == ["Success"]
    assert (tmp_path / "sent" / "key").read_bytes() == (tmp_path / "key").read_bytes()

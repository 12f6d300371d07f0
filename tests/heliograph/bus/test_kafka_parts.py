"""Parts of the bus on Kafka that need no broker: the URL, errors, layout of topics, the plan of topics and ACLs."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from heliograph.bus.kafka import client as limits
from heliograph.bus.kafka import confluent_reading, pure_reading
from heliograph.bus.kafka.errors import (
    BY_CLASS,
    BY_CODE,
    Code,
    Problem,
    problem_of_code,
    problem_of_exception,
)
from heliograph.bus.kafka.layout import topic_configs
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings, parse
from heliograph.bus.open import open_bus
from heliograph.diagnose.kafka_plan import GROUPS, KNOWN_TOPICS, READS, WRITES, plan
from schemas import topics
from schemas.errors import BusError, BusUnavailable, InvalidConfiguration, RecordTooLarge, TopicMissing

kafka_errors: Any = import_module("kafka.errors")
CLIENTS = ["confluent", "kafka-python"]
ROOT = Path(__file__).parents[3]


def test_a_url_sets_every_field_of_the_kafka_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    monkeypatch.setenv("KAFKA_PASSWORD", "very secret")
    settings = parse(
        "kafka://a:9092,b.example.com:9093?namespace=prod&replication=3&security=tls&sasl=scram-sha-512"
        f"&username=u&password=env:KAFKA_PASSWORD&ca={ca}&client=kafka-python"
    )
    assert settings.bootstrap == "a:9092,b.example.com:9093"
    assert (settings.namespace, settings.replication, settings.ca) == ("prod", 3, str(ca))
    assert (settings.protocol, settings.sasl, settings.client) == (
        "SASL_SSL",
        "SCRAM-SHA-512",
        "kafka-python",
    )
    assert settings.password is not None
    assert settings.password.reveal() == "very secret"
    assert "very secret" not in repr(settings)
    assert settings.full("deliveries") == "prod.deliveries"
    assert settings.short("prod.deliveries") == "deliveries"
    assert settings.short("production.deliveries") is None


def test_a_url_without_parameters_uses_the_defaults() -> None:
    settings = parse("kafka://localhost:9092")
    assert settings == KafkaSettings(servers=("localhost:9092",))
    assert (settings.namespace, settings.protocol, settings.client) == ("heliograph", "PLAINTEXT", None)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://", "write host:port"),
        ("kafka://host", "write host:port"),
        ("kafka://a:1,,b:2", "write host:port"),
        ("kafka://u:hunter2@a:1", "write host:port"),
        ("kafka://a:1?namespace=a/b", "namespace="),
        ("kafka://a:1?replication=0", "replication="),
        ("kafka://a:1?security=ssl", "plaintext, tls"),
        ("kafka://a:1?security=tls&ca=/no/such/file", "/no/such/file is not a file"),
        ("kafka://a:1?client=java", "confluent, kafka-python"),
        ("kafka://a:1?sasl=GSSAPI&username=u&password=hunter2", "SCRAM-SHA-256"),
        ("kafka://a:1?sasl=PLAIN&username=u", "password=: sasl needs it"),
        ("kafka://a:1?username=u&password=hunter2", "sasl=: username and password need it"),
        ("kafka://a:1?sasl=PLAIN&username=u&password=env:NO_SUCH_NAME", "NO_SUCH_NAME"),
        ("kafka://a:1?colour=red", "colour=: unknown"),
    ],
)
def test_a_wrong_url_is_refused_by_parameter_and_shows_no_secret(url: str, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=re.escape(says)) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)


def test_url_and_configuration_may_not_name_different_namespaces() -> None:
    assert parse("kafka://a:1", "own").namespace == "own"
    assert parse("kafka://a:1?namespace=own").namespace == "own"
    assert parse("kafka://a:1?namespace=own", "own").namespace == "own"
    with pytest.raises(InvalidConfiguration, match=r"bus\.namespace: bus\.url names another"):
        parse("kafka://a:1?namespace=own", "other")


def test_every_error_of_both_clients_becomes_one_line_of_ours() -> None:
    codes = [getattr(KafkaError, name) for name in dir(KafkaError) if name.isupper()]
    classes: list[Any] = [
        each for each in cast("dict[str, Any]", vars(kafka_errors)).values() if isinstance(each, type)
    ]
    assert len(codes) > 150
    assert len(classes) > 140
    found = [problem_of_code(code) for code in codes]
    found += [problem_of_exception(each.__new__(each)) for each in classes]
    for problem in found:
        error = problem.error("kafka://a:1", "two\nlines")
        assert isinstance(error, BusError)
        assert "\n" not in str(error)
        assert "kafka://a:1" in str(error)
    assert set(found) == set(Problem) - {Problem.NOT_CREATED}


def test_the_tables_hold_only_errors_that_the_clients_know() -> None:
    codes = {getattr(KafkaError, name) for name in dir(KafkaError) if name.isupper()}
    assert codes >= set(Code) >= BY_CODE.keys()
    assert all(hasattr(kafka_errors, name) for name in BY_CLASS)


@pytest.mark.parametrize(
    ("code", "kind"), [(10, RecordTooLarge), (3, TopicMissing), (19, BusUnavailable), (58, BusUnavailable)]
)
def test_both_clients_agree_on_codes_of_the_protocol(code: int, kind: type[BusError]) -> None:
    assert problem_of_code(code) is problem_of_exception(kafka_errors.for_code(code)())
    assert isinstance(problem_of_code(code).error("u", ""), kind)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_address_without_a_broker_raises_bus_unavailable(
    client: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECT_WITHIN", 1.0)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(BusUnavailable, match=r"kafka://.*check the servers"):
            open_bus(f"kafka://{host}:{held.getsockname()[1]}?client={client}")


def test_only_state_and_parked_are_compacted() -> None:
    compacted = [
        name for name in KNOWN_TOPICS if topic_configs(name, 60.0).get("cleanup.policy") == "compact"
    ]
    assert compacted == ["state", "parked"]


def test_topics_kept_for_ever_or_until_consumed_have_no_retention() -> None:
    endless = {name for name in KNOWN_TOPICS if topic_configs(name, 60.0).get("retention.ms") == "-1"}
    wheel = {topics.retry_topic(width) for width in topics.TIERS}
    assert endless == {
        *topics.CONFIGURATION,
        topics.ROUTING,
        topics.COMMANDS,
        topics.DELIVERIES,
        *wheel,
        LOG_TOPIC,
    }
    assert topic_configs("events.ecs.disk", 60.0)["retention.ms"] == "60000"
    assert topic_configs("events.ecs.disk", None)["retention.ms"] == "-1"
    assert {topic_configs(name, 60.0)["message.timestamp.type"] for name in KNOWN_TOPICS} == {"LogAppendTime"}


def test_the_plan_has_every_topic_and_the_acls_of_each_role() -> None:
    made = plan(parse("kafka://a:1?namespace=ns&replication=3"), 12, 60.0, ["events.rds.instance", "alerts"])
    by_name = {topic.name: topic for topic in made.topics}
    assert by_name.keys() == {f"ns.{name}" for name in (*KNOWN_TOPICS, "events.rds.instance", "alerts")}
    assert by_name["ns.events.ecs.disk"].partitions == 12
    assert by_name["ns.subscriptions"].partitions == by_name[f"ns.{LOG_TOPIC}"].partitions == 1
    assert {topic.replication for topic in made.topics} == {3}
    assert READS.keys() == WRITES.keys() == GROUPS.keys()
    allowed = {(acl.role, acl.resource, acl.name, acl.prefixed): acl.operations for acl in made.acls}
    assert allowed["router", "topic", "ns.events.", True] == ("Read", "Describe")
    assert allowed["deliverer", "group", "ns.wheel", False] == ("Read", "Describe")
    assert ("archiver", "topic", "ns.events.", True) in allowed
    assert "Write" not in {each for acl in made.acls if acl.role == "archiver" for each in acl.operations}
    assert any(acl.name == "ns.alerts" and "Write" in acl.operations for acl in made.acls)


def test_topic_patterns_match_whole_names_of_the_namespace_only() -> None:
    settings = parse("kafka://a:1?namespace=n.s")
    for make in (
        confluent_reading.pattern(settings, "events.*"),
        pure_reading.pattern(settings, ["events.*", "x"]),
    ):
        assert re.search(make, "n.s.events.ecs.disk")
        assert not re.search(make, "n.s.eventsx")
        assert not re.search(make, "nxs.events.a")
        assert not re.search(make, "other.n.s.events.a")


LOGGERS = """
import logging, kafka, confluent_kafka

def state():
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: (logger.level, logger.propagate, logger.disabled, list(logger.handlers), list(logger.filters))
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger)
    }

before = state()
from heliograph.bus.kafka import bus, confluent, pure
after = state()
assert {name: after[name] for name in before} == before
assert logging.getLogger("kafka").level == logging.NOTSET
"""


def test_importing_the_bus_on_kafka_configures_no_logger() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGGERS], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""The documents agree with the code, and with each other."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import duckdb
import msgspec
import pytest
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel

from archiver.format.segment import SegmentHeader
from archiver.read.query_views import VIEWS, view_statements
from heliograph.app.config import load, settings
from heliograph.app.roles import ROLES
from heliograph.app.settings_reference import reference
from heliograph.bus.kafka.layout import topic_configs
from heliograph.bus.kafka.settings import LOG_TOPIC, Client, KafkaSettings, Sasl, Security
from heliograph.chaos.faults import FAULTS, Fault, Requirement
from heliograph.diagnose.kafka_plan import KNOWN_TOPICS
from heliograph.operations.subscription_file import check_targets, read_file
from heliograph.store.s3.location import Flavor, Location, Style
from schemas import metrics
from schemas.delivery import Delivered, Delivery, Reason, ReasonCode, Rejected, Retry
from schemas.policy import SCHEDULES, BreakerPolicy, RetryPolicy
from schemas.record import Position
from schemas.subscription import Filter, Resources, Subscription, Target
from schemas.target_state import TargetStatus
from schemas.topics import TIERS, kind_of, matches
from sinks.callback.cloudevents import encode_structured
from sinks.callback.settings import BasicSettings
from sinks.http.outcomes import judge_failure, judge_response
from sinks.http.response import Response
from sinks.http.tls import TlsSettings
from sinks.kinds import KINDS
from sinks.objects.events import FIELDS
from tests.documents import (
    DOCUMENTS,
    ROOT,
    Block,
    anchors,
    blocks,
    codes,
    document,
    headings,
    links,
    prose,
    rows,
    section,
)
from tests.test_layers import MAY_IMPORT

ARCHITECTURE = document("docs/architecture.md")
ARCHIVE = document("docs/reference/archive-format.md")
CHAOS = document("docs/how-to/chaos.md")
DELIVERY = document("docs/explanation/delivery.md")
KAFKA = document("docs/reference/kafka.md")
LOG_LINES = document("docs/reference/log-lines.md")
METRICS = document("docs/reference/metrics.md")
POLICIES = document("docs/reference/retry-and-limits.md")
ROLES_PAGE = document("docs/reference/roles.md")
STORES = document("docs/reference/object-stores.md")
SUBSCRIPTIONS = document("docs/reference/subscriptions.md")
VIEWS_PAGE = document("docs/reference/query-views.md")

_SOURCES = tuple(
    path
    for room in ("archiver", "heliograph", "producers", "router", "schemas", "sinks")
    for path in (ROOT / room).rglob("*.py")
)


def _toml(*, of_subscriptions: bool) -> list[Block]:
    return [block for block in blocks("toml") if ("[[subscription]]" in block.text) == of_subscriptions]


# Documents among themselves.


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_has_a_target(path: Path) -> None:
    for link in links(path.read_text()):
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{path}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{path}: {link}"


def test_every_named_file_and_function_exists() -> None:
    for path in DOCUMENTS:
        text = prose(path.read_text())
        for name in re.findall(r"`((?:[a-z_]+/)+\w+\.(?:py|tsv|avsc))`", text):
            assert (ROOT / name).is_file(), f"{path}: {name}"
        for name, symbol in re.findall(r"`((?:[a-z_]+/)+\w+\.py)` `([\w.]+)`", text):
            for part in symbol.split("."):
                assert re.search(rf"(def|class) {part}\b", document(name)), f"{path}: {name} {symbol}"


def test_every_path_in_contributing_exists() -> None:
    contributing = document("CONTRIBUTING.md")
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|tsv)|Makefile)`", contributing)
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists(), path


def test_reading_the_code_names_files_and_functions_that_exist() -> None:
    text = document("docs/reading-the-code.md")
    files = [heading for heading in headings(text) if heading[0].isdecimal()]
    assert len(files) == 5
    for heading in files:
        (file,) = codes(heading)
        source = document(file)
        for name in codes(section(text, heading)):
            if "/" in name or name in {"deliveries", "rejects"}:
                continue
            for part in name.split("."):
                assert re.search(rf"\b{part}\b", source), f"{file}: {name}"


def test_every_page_is_in_the_index() -> None:
    index = set(links(document("docs/README.md")))
    for path in DOCUMENTS:
        if (
            path.is_relative_to(ROOT / "docs")
            and path.parent.name != "decisions"
            and path.name != "README.md"
        ):
            assert str(path.relative_to(ROOT / "docs")) in index, path


def test_every_make_command_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", document("Makefile"), re.MULTILINE))
    for path in DOCUMENTS:
        assert set(re.findall(r"`make ([a-z]+)", path.read_text())) <= targets, path


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_examples_parse(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", _toml(of_subscriptions=True), ids=str)
def test_subscription_examples_are_accepted(block: Block) -> None:
    check_targets(read_file(block.text), KINDS)


@pytest.mark.parametrize("block", _toml(of_subscriptions=False), ids=str)
def test_configuration_examples_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "heliograph.toml"
    file.write_text(block.text)
    written = {f"{section}.{key}" for section, keys in tomllib.loads(block.text).items() for key in keys}
    assert written <= {setting.name for setting in settings()}
    load({"HELIOGRAPH_HOME": str(tmp_path), "HELIOGRAPH_CONFIG": str(file)})


def test_each_decision_has_the_number_of_its_file() -> None:
    found = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in found]
    assert numbers == list(range(1, len(found) + 1))
    for number, path in zip(numbers, found, strict=True):
        assert path.read_text().startswith(f"# {number}. "), path


# The architecture.


def test_the_table_of_packages_is_the_enforced_table() -> None:
    stated = {codes(package)[0]: allowed for package, _, allowed in rows(section(ARCHITECTURE, "Rooms"))}
    assert {package: frozenset(codes(allowed)) for package, allowed in stated.items()} == MAY_IMPORT


# Operations.


def test_the_page_of_settings_is_made_from_the_configuration() -> None:
    assert document("docs/reference/settings.md") == reference(), "run `make docs`"


def test_every_metric_is_documented() -> None:
    expected: list[tuple[str, str, list[str]]] = []
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            family = next(iter(metric.collect()))
            suffix = "_total" if isinstance(metric, Counter) else ""
            expected.append((f"{family.name}{suffix}", family.type, list(vars(metric)["_labelnames"])))
    stated = [
        (codes(name)[0], kind, codes(labels)) for name, kind, labels, _ in rows(section(METRICS, "Metrics"))
    ]
    assert sorted(stated) == sorted(expected)


def test_every_role_is_documented() -> None:
    assert [codes(row[0])[0] for row in rows(section(ROLES_PAGE, "Running"))] == list(ROLES)


def test_every_documented_log_line_is_in_the_code() -> None:
    sources = "\n".join(path.read_text() for path in _SOURCES)
    for row in rows(section(LOG_LINES, "Log lines")):
        for line in codes(row[0]):
            assert f'"{line}"' in sources, line


def test_the_widths_of_the_wheel_are_documented() -> None:
    *most, last = map(str, TIERS)
    assert f"Widths: {', '.join(most)} and {last} s." in section(DELIVERY, "The timing wheel")


def test_every_fault_is_documented() -> None:
    stated = {codes(name)[0]: text for name, text in rows(section(CHAOS, "Chaos"))}
    assert list(stated) == list(Fault)
    for fault, text in stated.items():
        kind = FAULTS[Fault(fault)]
        longest = re.search(r"after up to (\d+) s|for up to (\d+) s", text)
        assert longest is None or float(longest[1] or longest[2]) == kind.seconds[1], fault
        assert ("embedded only" in text) == (kind.needs is Requirement.EMBEDDED_BUS), fault


# Subscriptions.


def _keys(heading: str) -> list[str]:
    return [codes(row[0])[0] for row in rows(section(SUBSCRIPTIONS, heading))]


def _defaults(text: str) -> dict[str, str]:
    return {codes(key)[0]: default for key, default, *_ in rows(text)}


def _default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return "–"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def test_every_key_of_a_subscription_is_documented() -> None:
    assert sorted(_keys("The subscription")) == sorted(Subscription.model_fields)


def test_every_clause_is_documented() -> None:
    resources = [f"resources.{key}" for key in Resources.model_fields]
    clauses = [key for key in Filter.model_fields if key != "resources"]
    assert _keys("The filter") == [*clauses, *resources]


def test_every_key_of_a_target_is_documented() -> None:
    stated = _defaults(section(SUBSCRIPTIONS, "Targets"))
    assert list(stated) == list(Target.model_fields)
    assert stated["concurrency"] == _default(Target, "concurrency")


def test_the_retry_policy_is_documented() -> None:
    expected = {key: _default(RetryPolicy, key) for key in RetryPolicy.model_fields}
    text = section(POLICIES, "Retry")
    assert _defaults(text) == expected
    schedules = {
        codes(name)[0]: int(tries) for name, _, tries, _ in rows(text.partition("when it was applied.")[2])
    }
    assert schedules == {name: values["tries"] for name, values in SCHEDULES.items()}


def test_every_target_state_is_documented() -> None:
    text = section(POLICIES, "Targets that are held back")
    assert set(_defaults(text)) == set(TargetStatus) - {TargetStatus.ACTIVE}
    expected = {key: _default(BreakerPolicy, key) for key in BreakerPolicy.model_fields}
    assert _defaults(text.partition("it never does:")[2]) == expected


def test_every_kind_has_a_section_with_its_settings() -> None:
    stated = [codes(heading)[0] for heading in headings(SUBSCRIPTIONS) if heading.startswith("Kind ")]
    assert sorted(stated) == sorted(KINDS)
    for name, kind in KINDS.items():
        heading = f"Kind `{name}`"
        model = kind.settings
        text = section(SUBSCRIPTIONS, heading)
        assert _defaults(text) == {key: _default(model, key) for key in model.model_fields}, name
        assert f'kind = "{name}"' in text, name
    stated_kinds = next(row[-1] for row in rows(section(SUBSCRIPTIONS, "Targets")) if row[0] == "`kind`")
    assert codes(stated_kinds) == sorted(KINDS)
    recognised = rows(section(SUBSCRIPTIONS, "Delivery ids"))
    assert sorted(codes(row[0])[0] for row in recognised) == sorted(KINDS)


def test_the_nested_settings_of_a_callback_are_documented() -> None:
    text = section(SUBSCRIPTIONS, "Kind `callback`")
    meanings = {codes(row[0])[0]: codes(row[-1]) for row in rows(text)}
    assert set(BasicSettings.model_fields) <= set(meanings["basic"])
    assert list(TlsSettings.model_fields) == meanings["tls"]
    assert _keys("TLS of a callback") == list(TlsSettings.model_fields)


def test_the_attributes_of_a_cloudevent_are_documented() -> None:
    source = Position("events.ecs.disk", 0, 0)
    event = b'{"product":"ECS","name":"A:B"}'
    attributes = json.loads(
        encode_structured(
            Delivery(
                id="id",
                source=source,
                subscription="s",
                target="t",
                resource="arn",
                event=event,
                event_time=0,
                configuration=0,
            )
        )
    )
    assert set(_keys("CloudEvents")) == attributes.keys() - {"data"}


def test_the_fields_of_a_key_template_are_documented() -> None:
    table = section(SUBSCRIPTIONS, "Kind `object`").rpartition("```")[2]
    assert {field for row in rows(table) for field in codes(row[0])} == set(FIELDS)


def test_the_outcome_of_every_http_status_is_documented() -> None:
    stated: dict[int, tuple[str, str]] = {}
    for statuses, outcome, code in rows(section(POLICIES, "Outcomes")):
        first, _, last = statuses.partition("–")
        for status in range(int(first), int(last or first) + 1):
            assert status not in stated
            stated[status] = (outcome, "".join(codes(code)))
    assert stated == {status: _leads_to(status) for status in range(100, 600)}


def _leads_to(status: int) -> tuple[str, str]:
    match judge_response(Response(status), now=0):
        case Delivered():
            return "delivered", ""
        case Retry(reason=reason):
            return "retry", reason.code
        case Rejected(reason=reason):
            return "rejected", reason.code


def test_every_reason_is_documented() -> None:
    text = POLICIES.partition("Every reason that")[2]
    stated = {codes(reason)[0]: then for reason, _, then in rows(text)}
    assert list(stated) == list(ReasonCode)
    for code in ReasonCode:
        rejected = isinstance(judge_failure(Reason(code)), Rejected)
        assert (stated[code] == "rejected") == rejected, code


# Kafka and object stores.


def test_every_parameter_of_a_kafka_url_is_documented() -> None:
    fields = [field for field in msgspec.structs.fields(KafkaSettings) if field.name != "servers"]
    expected = [(f"`{field.name}`", f"`{field.default}`" if field.default else "–") for field in fields]
    stated = rows(section(KAFKA, "The URL"))
    assert [tuple(row[:2]) for row in stated] == expected
    meanings = {codes(row[0])[0]: codes(row[2]) for row in stated}
    for name, choice in (("client", Client), ("security", Security), ("sasl", Sasl)):
        assert meanings[name] == list(get_args(choice))


def test_the_kafka_settings_of_every_topic_are_documented() -> None:
    *stated, others = rows(section(KAFKA, "Topics"))
    for topic in KNOWN_TOPICS:
        _, partitions, policy, retention = next(
            (row for row in stated if matches(topic, codes(row[0]))), others
        )
        configs = topic_configs(topic, retention=1.0)
        in_hours = {"`[bus] retention_hours`": "1000"}
        assert [f"`{configs['cleanup.policy']}`", configs.get("retention.ms", "")] == [
            policy,
            in_hours.get(retention, retention.strip("`")),
        ], topic
        assert (partitions == "1") == (kind_of(topic).partitions == 1 or topic == LOG_TOPIC), topic
        for name in ("message.timestamp.type", "max.message.bytes"):
            assert f"`{name}={configs[name]}`" in section(KAFKA, "Topics")


def test_every_parameter_of_a_bucket_is_documented() -> None:
    stated = {codes(name)[0]: codes(meaning) for name, meaning in rows(section(STORES, "Buckets"))}
    fields = [field.name for field in dataclasses.fields(Location)]
    assert list(stated) == [name for name in fields if name not in {"bucket", "prefix"}]
    assert set(Style) <= set(stated["style"])
    assert set(Flavor) <= set(stated["flavor"])


# The archive.


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_of_a_view_is_documented(view: str) -> None:
    with duckdb.connect() as connection:
        for statement in view_statements({}, []):
            connection.execute(statement)
        described = connection.execute(f"DESCRIBE {view}").fetchall()
    stated = [(codes(name)[0], kind) for name, kind, _ in rows(section(VIEWS_PAGE, f"View `{view}`"))]
    assert stated == [(row[0], row[1]) for row in described]


def test_the_fields_of_a_segment_are_documented() -> None:
    text = section(ARCHIVE, "A segment")
    schema = json.loads(document("schemas/avro/segment.avsc"))
    assert [codes(row[0])[0] for row in rows(text)] == [field["name"] for field in schema["fields"]]
    header = [field for row in rows(text.partition("a JSON object")[2]) for field in codes(row[0])]
    assert sorted(header) == sorted(SegmentHeader.__struct_fields__)

"""`heliograph topics --plan`: what to make beforehand on a cluster where roles may not make topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.app.config import Config
from heliograph.cli.output import note, say, show

if TYPE_CHECKING:
    from heliograph.bus.kafka.client import NewTopic
    from heliograph.diagnose.kafka_plan import Acl, Plan

NOTHING = "nothing is to be created: this log makes its topics itself, and knows no permissions"


def show_plan(config: Config, *, as_json: bool) -> None:
    """Print topics and ACLs as the configuration wants them; connects to nothing. Raises InvalidConfiguration."""
    found = planned(config)
    if found is None:
        (note if as_json else say)(f"{config.bus_url}: {NOTHING}")
        return
    show(map(_topic, found.topics), ("topic", "partitions", "replication", "settings"), as_json=as_json)
    if not as_json:
        say()
    show(map(_acl, found.acls), ("role", "resource", "name", "allow"), as_json=as_json)
    for pattern in sorted(set(config.events.topics) - set(_names(config))):
        note(f"events.topics {pattern!r}: add a topic as `events.other` for each that comes to match")
    note("targets of kind `topic`: add their topics as `events.other`, and let the deliverer write them")


def planned(config: Config) -> Plan | None:
    """What to create and to allow on the Kafka that is configured; None where another log is."""
    if not config.bus_url.startswith("kafka://"):
        return None
    from heliograph.bus.kafka.settings import parse
    from heliograph.bus.open import KAFKA_PARTITIONS
    from heliograph.diagnose.kafka_plan import plan

    section = config.bus
    return plan(
        parse(config.bus_url, section.namespace),
        section.partitions or KAFKA_PARTITIONS,
        section.retention_hours * 3600,
        _names(config),
    )


def _names(config: Config) -> list[str]:
    return [topic for topic in config.events.topics if "*" not in topic]


def _topic(topic: NewTopic) -> dict[str, object]:
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication": "default" if topic.replication < 0 else topic.replication,
        "settings": " ".join(f"{name}={value}" for name, value in topic.configs.items()),
    }


def _acl(acl: Acl) -> dict[str, object]:
    """A name that ends in `*` stands for every resource that begins so."""
    name = f"{acl.name}*" if acl.prefixed else acl.name
    return {"role": acl.role, "resource": acl.resource, "name": name, "allow": ", ".join(acl.operations)}

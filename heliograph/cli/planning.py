"""`heliograph topics --plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.app.config import Config
from heliograph.cli.output import note, say, show

if TYPE_CHECKING:
    from heliograph.bus.kafka.client import NewTopic
    from heliograph.diagnose.kafka_plan import Acl

NOTHING = "nothing to create; this bus creates its topics itself and has no permissions"


def show_plan(config: Config, *, as_json: bool) -> None:
    """Prints the topics and ACLs that the configuration needs on Kafka. Raises InvalidConfiguration."""
    from heliograph.operations.topics import plan_topics

    plan = plan_topics(config)
    if plan is None:
        (note if as_json else say)(f"{config.bus_url}: {NOTHING}")
        return
    show(map(_topic_row, plan.topics), ("topic", "partitions", "replication", "settings"), as_json=as_json)
    if not as_json:
        say()
    show(map(_acl_row, plan.acls), ("role", "resource", "name", "allow"), as_json=as_json)
    for pattern in sorted({topic for topic in config.events.topics if "*" in topic}):
        note(f"events.topics {pattern!r}: create each matching topic with the settings of `events.other`")
    note(
        "targets of kind `topic`: create their topics as `events.other`, and allow the deliverer to write them"
    )


def _topic_row(topic: NewTopic) -> dict[str, object]:
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication": "default" if topic.replication < 0 else topic.replication,
        "settings": " ".join(f"{name}={value}" for name, value in topic.configs.items()),
    }


def _acl_row(acl: Acl) -> dict[str, object]:
    """Returns the fields of an ACL; a name that ends in `*` is a prefix."""
    name = f"{acl.name}*" if acl.prefixed else acl.name
    return {"role": acl.role, "resource": acl.resource, "name": name, "allow": ", ".join(acl.operations)}

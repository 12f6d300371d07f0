"""Plan of `heliograph topics --plan`: the topics to create and the ACLs of each role, for clusters on which roles may
not create topics.

Names are those on the broker. Permissions are those of Apache Kafka 4.0 ("Authorization and ACLs"): an idempotent
producer needs only Write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from heliograph.bus.kafka.client import NewTopic
from heliograph.bus.kafka.layout import new_topic
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings
from schemas import topics

Role = Literal["producer", "router", "deliverer", "archiver", "agent", "operator"]
Operation = Literal["Read", "Write", "Describe", "Delete", "DescribeConfigs"]


class Acl(NamedTuple):
    """A permission of a role's principal. `prefixed`: for every resource whose name begins with `name`."""

    role: Role
    resource: Literal["topic", "group"]
    name: str
    prefixed: bool
    operations: tuple[Operation, ...]


class Plan(msgspec.Struct, frozen=True):
    """Topics and ACLs, with names as on the broker."""

    topics: tuple[NewTopic, ...]
    acls: tuple[Acl, ...]


KNOWN_TOPICS = (
    *topics.EVENT_TOPICS,
    topics.EVENTS_OTHER,
    topics.REJECTS,
    topics.DELIVERIES,
    *map(topics.retry_topic, topics.TIERS),
    topics.VERDICTS,
    topics.DEAD_LETTERS,
    topics.COMMANDS,
    topics.EXECUTIONS,
    topics.ROUTING,
    topics.MUTES,
    *topics.CONFIGURATION,
    *topics.COMPACTED,
    LOG_TOPIC,
)
"""Every topic that the roles use by themselves."""

_CONFIGURATION = (*topics.CONFIGURATION, LOG_TOPIC)

READS: dict[Role, tuple[str, ...]] = {
    "producer": _CONFIGURATION,
    "router": (
        "events.*",
        topics.EXECUTIONS,
        topics.DELIVERIES,
        topics.VERDICTS,
        topics.ROUTING,
        topics.MUTES,
        *_CONFIGURATION,
    ),
    "deliverer": (topics.DELIVERIES, "retries.*", topics.VERDICTS, *topics.COMPACTED, *_CONFIGURATION),
    "archiver": (*topics.ARCHIVED, LOG_TOPIC),
    "agent": (topics.COMMANDS, LOG_TOPIC),
    "operator": ("*",),
}
"""Topics that each role reads, as names and `*` patterns."""

WRITES: dict[Role, tuple[str, ...]] = {
    "producer": ("events.*", topics.REJECTS, topics.EXECUTIONS),
    "router": (topics.DELIVERIES, topics.REJECTS, topics.VERDICTS, topics.ROUTING, topics.MUTES),
    "deliverer": (
        topics.DELIVERIES,
        "retries.*",
        topics.VERDICTS,
        topics.DEAD_LETTERS,
        topics.REJECTS,
        topics.EXECUTIONS,
        *topics.COMPACTED,
    ),
    "archiver": (),
    "agent": (topics.EXECUTIONS, "events.*", topics.REJECTS),
    "operator": (
        topics.COMMANDS,
        *topics.CONFIGURATION,
        topics.DELIVERIES,
        topics.VERDICTS,
        topics.REJECTS,
        topics.STATE,
        "events.*",
        LOG_TOPIC,
    ),
}
"""Topics that each role writes.

The first process that opens the bus writes the log id; with these ACLs this must be the operator.
"""

GROUPS: dict[Role, tuple[str, ...]] = {
    "producer": (),
    "router": ("router", "executions"),
    "deliverer": ("deliverer", "wheel"),
    "archiver": ("archiver",),
    "agent": (),
    "operator": (),
}
"""Consumer groups that each role joins."""


def plan(
    settings: KafkaSettings, partitions: int, retention: float | None, extra: Sequence[str] = ()
) -> Plan:
    """Builds the plan of everything to create beforehand.

    `partitions`: number of partitions of a topic without its own; `retention`: seconds, None keeps all records;
    `extra`: more topics, such as those of other products' events or of targets of kind `topic`.
    """
    wanted = [*KNOWN_TOPICS, *(name for name in extra if name not in KNOWN_TOPICS)]
    made = [new_topic(settings, name, partitions=partitions, retention=retention) for name in wanted]
    return Plan(
        tuple(topic._replace(name=settings.full(topic.name)) for topic in made),
        tuple(acl for role in READS for acl in _acls(settings, role, extra)),
    )


def _acls(settings: KafkaSettings, role: Role, extra: Sequence[str]) -> Sequence[Acl]:
    """Builds the ACLs of a role.

    Every role reads the cursors and members of all groups, from which follow the finished and the removable records.
    """
    targets = [name for name in extra if not name.startswith(topics.EVENTS)] if role == "deliverer" else []
    found: list[Acl] = []
    for names, operations in (
        (READS[role], ("Read", "Describe")),
        ((*WRITES[role], *targets), ("Write", "Describe")),
    ):
        found.extend(_acl(settings, role, "topic", name, operations=operations) for name in names)
    found.extend(
        _acl(settings, role, "group", name, operations=("Read", "Describe")) for name in GROUPS[role]
    )
    found.append(_acl(settings, role, "group", "*", operations=("Describe",)))
    if role == "operator":
        found.append(_acl(settings, role, "topic", "*", operations=("DescribeConfigs",)))
    if role in {"deliverer", "operator"}:
        found.extend(
            _acl(settings, role, "topic", name, operations=("Delete", "Describe"))
            for name in (topics.DELIVERIES, f"{topics.RETRIES}*")
        )
    return found


def _acl(
    settings: KafkaSettings,
    role: Role,
    resource: Literal["topic", "group"],
    name: str,
    *,
    operations: Sequence[str],
) -> Acl:
    prefixed = name.endswith("*")
    allowed: tuple[Operation, ...] = tuple(each for each in _OPERATIONS if each in operations)
    return Acl(role, resource, settings.full(name.removesuffix("*")), prefixed, allowed)


_OPERATIONS: tuple[Operation, ...] = ("Read", "Write", "Describe", "Delete", "DescribeConfigs")

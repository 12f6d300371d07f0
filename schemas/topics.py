"""The topics of a deployment: their names, and the retention and partitions of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec

NAMESPACE = "heliograph"
"""Default prefix of topics and groups on a shared broker."""
EVENTS = "events."
EVENTS_OTHER = "events.other"
EVENT_TOPICS = (
    "events.ecs.instance",
    "events.ecs.disk",
    "events.ecs.snapshot",
    "events.ecs.networkinterface",
)
REJECTS = "rejects"
DELIVERIES = "deliveries"
VERDICTS = "verdicts"
DEAD_LETTERS = "dead-letters"
SUBSCRIPTIONS = "subscriptions"
GROUPS = "groups"
SETTINGS = "settings"
ROUTING = "routing"
COMMANDS = "commands"
EXECUTIONS = "executions"
RETRIES = "retries."
STATE = "state"
MUTES = "mutes"
PARKED = "parked"

TIERS: tuple[int, ...] = tuple(4**power for power in range(8))
"""Widths of the timing wheel's tiers, in seconds: 1, 4, 16 … 16384."""

COMPACTED = (STATE, PARKED)
"""Compacted topics, in which the last record of each key counts: conditions of targets, and parked deliveries."""
CONFIGURATION = (SUBSCRIPTIONS, GROUPS, SETTINGS)
ARCHIVED = (
    "events.*",
    COMMANDS,
    EXECUTIONS,
    VERDICTS,
    DEAD_LETTERS,
    REJECTS,
    ROUTING,
    SUBSCRIPTIONS,
    GROUPS,
    SETTINGS,
)
"""Topics that the archiver stores, as names and patterns."""

EVENT_LIMIT = 256 * 1024
"""Limit of an event in bytes, above which the edge rejects it."""
RECORD_LIMIT = 1024 * 1024
"""Limit of a record of an internal topic in bytes, headers included."""

_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class TopicKind(msgspec.Struct, frozen=True):
    """Partitions and retention of a topic.

    `partitions`: None for the deployment's default. `retained_forever`: no record is ever removed. `until_consumed`:
    records are never removed by age, only once every known group has finished them. `compacted`: only the last record
    of a key counts. Other topics keep records for the bus's retention time and, if the bus can, until every known
    group has finished them.
    """

    partitions: int | None = None
    retained_forever: bool = False
    until_consumed: bool = False
    compacted: bool = False


def kind_of(topic: str) -> TopicKind:
    """Returns partitions and retention of `topic`. An unknown topic has those of event topics."""
    if topic in CONFIGURATION:
        return TopicKind(partitions=1, retained_forever=True)
    if topic in {ROUTING, COMMANDS}:
        return TopicKind(partitions=1, retained_forever=True)
    if topic == STATE:
        return TopicKind(partitions=1, compacted=True, retained_forever=True)
    if topic == PARKED:
        return TopicKind(compacted=True, retained_forever=True)
    if topic == DELIVERIES or topic.startswith(RETRIES):
        return TopicKind(until_consumed=True)
    return TopicKind()


def is_internal(topic: str) -> bool:
    """True if only Heliograph writes to `topic`; a target of kind `topic` may not name it."""
    return (
        topic.startswith((EVENTS, RETRIES))
        or topic in CONFIGURATION
        or topic
        in {DELIVERIES, VERDICTS, DEAD_LETTERS, REJECTS, ROUTING, MUTES, COMMANDS, EXECUTIONS, *COMPACTED}
    )


def retry_topic(width: int) -> str:
    """Returns the topic of the wheel's tier that is `width` seconds wide."""
    return f"{RETRIES}{width}s"


def event_topic(product: str, resource_type: str, extra: Iterable[str] = ()) -> str:
    """Returns the topic of an event: one of the four of ECS, one that `extra` (names or patterns) allows, or else
    `events.other`."""
    name = f"{EVENTS}{_UNSAFE.sub('-', product.lower())}.{_UNSAFE.sub('-', resource_type.lower())}"
    if name in EVENT_TOPICS or (valid_name(name) and any(fnmatchcase(name, pattern) for pattern in extra)):
        return name
    return EVENTS_OTHER


def valid_name(topic: str) -> bool:
    """True if Apache Kafka accepts `topic` as a name."""
    return _NAME.fullmatch(topic) is not None and topic not in {".", ".."}


def matches(topic: str, wanted: Iterable[str]) -> bool:
    """True if `topic` is one of `wanted`, which holds names and patterns with `*`."""
    return any(topic == want or ("*" in want and fnmatchcase(topic, want)) for want in wanted)

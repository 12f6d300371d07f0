"""How each topic is kept on the broker: partitions and settings, from what `schemas.topics` says of it."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.kafka.client import RECORD_BYTES, NewTopic
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings
from schemas.topics import kind_of


def new_topic(
    settings: KafkaSettings, topic: str, partitions: int, retention: float | None, wanted: int | None = None
) -> NewTopic:
    """What to make. `partitions`: of a topic that says nothing else; `wanted`: by whoever makes it; `retention`:
    seconds, None keeps everything."""
    count = 1 if topic == LOG_TOPIC else wanted or kind_of(topic).partitions or partitions
    return NewTopic(topic, count, settings.replication or -1, topic_configs(topic, retention))


def topic_configs(topic: str, retention: float | None) -> Mapping[str, str]:
    """Settings of one topic, by Apache Kafka's names. Time is always the log's: routing, the wheel and the archive
    take a record's timestamp for when the log took it, whoever produced it."""
    kind = kind_of(topic)
    configs = {"max.message.bytes": str(RECORD_BYTES), "message.timestamp.type": "LogAppendTime"}
    if kind.compacted:
        configs["cleanup.policy"] = "compact"
    elif retention is None or kind.retained_forever or kind.until_consumed or topic == LOG_TOPIC:
        configs |= {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    else:
        configs |= {"cleanup.policy": "delete", "retention.ms": str(round(retention * 1000))}
    return configs

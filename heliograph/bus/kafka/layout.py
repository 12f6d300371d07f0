"""Layout of topics on the broker: partitions and settings, derived from `schemas.topics`."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.kafka.client import RECORD_BYTES, NewTopic
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings
from schemas.topics import kind_of


def new_topic(
    settings: KafkaSettings,
    topic: str,
    *,
    partitions: int,
    retention: float | None,
    wanted: int | None = None,
) -> NewTopic:
    """Builds the topic to create. `partitions`: of a topic that says nothing else; `wanted`: asked for by the caller;
    `retention`: seconds, None keeps everything."""
    count = 1 if topic == LOG_TOPIC else wanted or kind_of(topic).partitions or partitions
    return NewTopic(topic, count, settings.replication or -1, topic_configs(topic, retention))


def topic_configs(topic: str, retention: float | None) -> Mapping[str, str]:
    """Builds the settings of one topic, by Apache Kafka's names.

    Timestamps are always the broker's (`LogAppendTime`): every reader takes a record's timestamp for the time of its
    append, whichever program produced it.
    """
    kind = kind_of(topic)
    configs = {"max.message.bytes": str(RECORD_BYTES), "message.timestamp.type": "LogAppendTime"}
    if kind.compacted:
        configs["cleanup.policy"] = "compact"
    elif retention is None or kind.retained_forever or kind.until_consumed or topic == LOG_TOPIC:
        configs |= {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    else:
        configs |= {"cleanup.policy": "delete", "retention.ms": str(round(retention * 1000))}
    return configs

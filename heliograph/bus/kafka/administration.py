"""What only those who set a cluster up or look after it ask of it: settings, permissions, removal.

Through kafka-python, which is always there, whichever client carries the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import NewTopic
from heliograph.bus.kafka.pure import Translation, base_config
from heliograph.bus.kafka.settings import KafkaSettings

_admin: Any = import_module("kafka.admin")


class Administration:
    """A connection with which topics are examined and removed; names are short. A context manager.

    Raises BusUnavailable.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        with self._translated():
            self._client: Any = _admin.KafkaAdminClient(**base_config(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def topics(self) -> Mapping[str, int]:
        """Every topic of the namespace and its number of partitions."""
        with self._translated():
            listed = self._client.describe_topics()
        found = {self._settings.short(each["topic"]): len(each["partitions"]) for each in listed}
        return {name: count for name, count in found.items() if name is not None}

    def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """The settings of topics, by Apache Kafka's names."""
        asked = [_admin.ConfigResource("TOPIC", self._settings.full(topic)) for topic in topics]
        found: dict[str, Mapping[str, str]] = {}
        with self._translated():
            for response in self._client.describe_configs(asked) if asked else ():
                for _, _, _, name, entries in response.resources:
                    found[self._settings.short(name) or ""] = {entry[0]: entry[1] for entry in entries}
        return found

    def may_create(self, topic: NewTopic) -> None:
        """Ask whether a topic could be made, and make none. Raises BusError if it could not."""
        wanted = _admin.NewTopic(
            self._settings.full(topic.name),
            topic.partitions,
            topic.replication,
            topic_configs=dict(topic.configs),
        )
        with self._translated():
            self._client.create_topics([wanted], round(client.TIMEOUT * 1000), validate_only=True)

    def remove_all(self) -> None:
        """Remove every group and topic of the namespace. Groups that still have members stay."""
        with self._translated():
            listed = [each[0] for each in self._client.list_consumer_groups()]
            groups = [name for name in listed if self._settings.short(name) is not None]
            if groups:
                self._client.delete_consumer_groups(groups)
            topics = [self._settings.full(topic) for topic in self.topics()]
            if topics:
                self._client.delete_topics(topics, round(client.TIMEOUT * 1000))

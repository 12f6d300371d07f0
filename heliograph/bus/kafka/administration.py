"""Administration of a cluster for `heliograph doctor`, demo and chaos: set-up and clean-up that the bus lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from heliograph.bus.kafka.client import NewTopic
from heliograph.bus.kafka.connect import connect
from heliograph.bus.kafka.settings import KafkaSettings


class Administration:
    """A connection of its own, by the client that the URL chooses; a context manager.

    Names of topics and groups lack the namespace.

    Every call raises BusUnavailable if the cluster fails.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._connection = connect(settings)
        try:
            self._connection.check()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def topics(self) -> Mapping[str, int]:
        """Lists every topic of the namespace with its number of partitions."""
        return self._connection.topics()

    def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Reads the settings of topics, by Apache Kafka's names."""
        return self._connection.configs(topics)

    def check_creation(self, topic: NewTopic) -> None:
        """Raises BusError if the broker would refuse to create this topic; creates nothing."""
        self._connection.check_creation(topic)

    def remove_all(self) -> None:
        """Removes every group and topic of the namespace. Groups that still have members stay."""
        self._connection.delete_groups(self._connection.groups())
        self._connection.delete_topics(list(self._connection.topics()))

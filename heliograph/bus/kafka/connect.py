"""Chooses the client library that reaches the cluster."""

from __future__ import annotations

from importlib.util import find_spec

from heliograph.bus.kafka.client import Connection
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.errors import InvalidConfiguration


def connect(settings: KafkaSettings) -> Connection:
    """Connects through `settings.client`, else confluent-kafka where it is installed, else kafka-python.

    Raises InvalidConfiguration for a client that is asked for and not installed.
    """
    installed = find_spec("confluent_kafka") is not None
    if settings.client == "kafka-python" or (settings.client is None and not installed):
        from heliograph.bus.kafka.pure import PureConnection

        return PureConnection(settings)
    if not installed:
        raise InvalidConfiguration(
            ["bus.url kafka://…?client=confluent: confluent-kafka is not installed; use client=kafka-python"]
        )
    from heliograph.bus.kafka.confluent import ConfluentConnection

    return ConfluentConnection(settings)

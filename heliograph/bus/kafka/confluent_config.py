"""Configuration of librdkafka, and the translation of its errors into ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException

from heliograph.bus.kafka import client
from heliograph.bus.kafka.errors import Problem, problem_of_code
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.errors import BusError

log = structlog.get_logger()

_REPEAT_AFTER = 60.0
"""Seconds for which the same error is not logged again."""


def base_config(settings: KafkaSettings) -> dict[str, Any]:
    """Builds what every client of the cluster is configured with, by librdkafka's names."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.protocol,
        "socket.timeout.ms": round(client.TIMEOUT * 1000),
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": round(client.LOOK_EVERY * 1000),
        "allow.auto.create.topics": False,
        "logger": _silent_logger(),
    }
    if settings.ca:
        config["ssl.ca.location"] = settings.ca
    if settings.sasl and settings.password:
        config |= {
            "sasl.mechanism": settings.sasl,
            "sasl.username": settings.username,
            "sasl.password": settings.password.reveal(),
        }
    return config


def _silent_logger() -> logging.Logger:
    """Makes a logger that drops the lines of librdkafka's threads: `Translation.remember` logs what matters of them.
    It is in no registry of loggers, so that nothing else is affected."""
    logger = logging.Logger("librdkafka")
    logger.addHandler(logging.NullHandler())
    return logger


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Builds the configuration of a producer: acknowledged by all replicas in sync, in order, without repeats."""
    return base_config(settings) | {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.num.messages": 10000,
        "message.max.bytes": client.RECORD_BYTES,
        "message.timeout.ms": round(client.TIMEOUT * 1000),
        "message.send.max.retries": 8,
        "retry.backoff.max.ms": 1000,
    }


def consumer_config(settings: KafkaSettings, group: str, name: str) -> dict[str, Any]:
    """Builds the configuration of a consumer: only we commit, and nothing is skipped."""
    return base_config(settings) | {
        "group.id": settings.full(group),
        "client.id": name,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": round(client.SESSION * 1000),
        "heartbeat.interval.ms": round(client.HEARTBEAT * 1000),
        "max.poll.interval.ms": round(client.POLL_WITHIN * 1000),
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        "fetch.message.max.bytes": client.RECORD_BYTES,
        "queued.max.messages.kbytes": 32 * 1024,
    }


class Translation:
    """Turns errors of librdkafka into ours.

    A request that timed out is explained by the last error that librdkafka's threads reported.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.last: KafkaError | None = None
        self._logged: dict[int, float] = {}

    def remember(self, error: KafkaError) -> None:
        """Keeps an error that happened between requests, and logs it; the library calls this."""
        now = time.monotonic()
        code = error.code()
        if problem_of_code(code) is not Problem.SILENT or self.last is None:
            self.last = error
        if now - self._logged.get(code, -_REPEAT_AFTER) >= _REPEAT_AFTER:
            self._logged[code] = now
            log.warning(
                "the Kafka client reported a problem", servers=self._settings.bootstrap, problem=error.str()
            )

    def error(self, error: KafkaError) -> BusError:
        """Builds our exception for an error of the library."""
        problem, reported = problem_of_code(error.code()), error
        if problem is Problem.SILENT and self.last is not None:
            problem, reported = problem_of_code(self.last.code()), self.last
        self.last = None
        return problem.error(self._settings.shown, reported.str())

    @contextmanager
    def __call__(self, ignored: AbstractSet[int] = frozenset()) -> Generator[None, None, None]:
        """Translates errors of the library that the block raises; those of the codes `ignored` are swallowed."""
        try:
            yield
        except KafkaException as error:
            inner = error.args[0]
            if inner.code() not in ignored:
                raise self.error(inner) from None

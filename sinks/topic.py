"""Kind `topic`: the delivery becomes a record of a topic, a queue that `heliograph tail` or any client reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, field_validator

from heliograph.bus.base import Bus
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import BusError, RecordTooLarge, TopicMissing
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord
from schemas.topics import is_internal, valid_name
from sinks.base import SinkContext, SinkKind


class TopicSettings(BaseModel):
    """`topic`: where the records go; none of the topics that only heliograph itself writes to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str

    @field_validator("topic")
    @classmethod
    def _writable(cls, topic: str) -> str:
        if not valid_name(topic):
            raise ValueError(f"{topic!r} is not a topic's name: up to 249 of a-z A-Z 0-9 . _ -")
        if is_internal(topic):
            raise ValueError(f"{topic!r} is a topic that only heliograph writes to; choose another name")
        return topic


class TopicSink:
    """Appends a batch at once, from a thread of its own, since an append waits for the disk."""

    def __init__(self, settings: TopicSettings, bus: Bus) -> None:
        self._topic = settings.topic
        self._bus = bus
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sink-{settings.topic}")

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Delivered with the new record's position as receipt."""
        records = [queue_record(self._topic, delivery) for delivery in batch]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._append, records)

    async def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False)

    def _append(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        try:
            return [Delivered(str(position)) for position in self._bus.append(records)]
        except RecordTooLarge as error:
            if len(records) == 1:
                return [Rejected(Reason(ReasonCode.TOO_LARGE, str(error)))]
            return [outcome for record in records for outcome in self._append([record])]
        except TopicMissing as error:
            return [Retry(Reason(ReasonCode.MISCONFIGURED, str(error)))] * len(records)
        except BusError as error:
            return [Retry(Reason(ReasonCode.UNAVAILABLE, str(error)))] * len(records)


def queue_record(topic: str, delivery: Delivery) -> NewRecord:
    """The event's bytes, keyed by its resource; the headers tell a repeat and where it came from."""
    headers = (
        (FORMAT, FORMAT_VERSION),
        ("delivery", delivery.id.encode()),
        ("source", str(delivery.source).encode()),
        ("subscription", delivery.subscription.encode()),
        ("event-time", b"%d" % delivery.event_time),
    )
    return NewRecord(topic, delivery.event, delivery.resource.encode(), headers)


def _build(settings: TopicSettings, context: SinkContext) -> TopicSink:
    return TopicSink(settings, context.bus)


KIND = SinkKind(TopicSettings, _build, batch=500)

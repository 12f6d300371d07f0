"""Kind `topic`: appends each delivery to a topic, a queue that `heliograph tail` or any other client reads."""

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
from sinks.base import CLOSED, SinkContext, SinkKind


class TopicSettings(BaseModel):
    """`topic`: name of the topic to append to; topics that only heliograph itself writes to are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str

    @field_validator("topic")
    @classmethod
    def _writable(cls, topic: str) -> str:
        if not valid_name(topic):
            raise ValueError(f"{topic!r} is not a topic's name; use 1 to 249 characters of a-z A-Z 0-9 . _ -")
        if is_internal(topic):
            raise ValueError(f"{topic!r} is a topic that only heliograph writes to; choose another name")
        return topic


class TopicSink:
    """Appends each batch in one call of the bus, in a thread of its own, since an append waits for the disk."""

    def __init__(self, settings: TopicSettings, bus: Bus) -> None:
        self._topic = settings.topic
        self._bus = bus
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sink-{settings.topic}")

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Appends the batch; the receipt of each delivery is the position of its record."""
        if self._closed:
            return [CLOSED] * len(batch)
        records = [build_record(self._topic, delivery) for delivery in batch]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._append, records)

    async def close(self) -> None:
        """Ends the thread after the append that is running."""
        self._closed = True
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


def build_record(topic: str, delivery: Delivery) -> NewRecord:
    """Returns the record: the event's bytes under its resource as key; the headers name delivery, source and subscription."""
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

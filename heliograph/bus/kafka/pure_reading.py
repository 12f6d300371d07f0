"""Reading through kafka-python: a member of a group, and a reader outside of groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import Commit, Fenced, Fetched, PartitionsMoved
from heliograph.bus.kafka.errors import FENCED
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.record import Record, TopicPartition

_kafka: Any = import_module("kafka")
_errors: Any = import_module("kafka.errors")
_structs: Any = import_module("kafka.structs")
_listener: Any = import_module("kafka.consumer.subscription_state").ConsumerRebalanceListener
_Place: Any = _kafka.TopicPartition
_Offset: Any = _structs.OffsetAndMetadata

_MENDS_ITSELF = (
    _errors.KafkaConnectionError,
    _errors.KafkaTimeoutError,
    _errors.NodeNotReadyError,
)


class Translated(Protocol):
    """Turns exceptions of the library into ours."""

    def __call__(self) -> AbstractContextManager[None]:
        """Around what may raise them."""
        ...


class _Reading:
    """What members and readers share: turning what was consumed into records."""

    def __init__(self, settings: KafkaSettings, translated: Translated, config: Mapping[str, Any]) -> None:
        self._settings = settings
        self._translated = translated
        self._consumer: Any = _kafka.KafkaConsumer(**config)
        self._positions: dict[TopicPartition, int] = {}

    def poll(self, limit: int, timeout: float) -> Fetched:
        """What the library has fetched. A broker that does not answer for a while brings nothing."""
        fetched = Fetched({}, {}, set())
        try:
            with self._translated():
                try:
                    found = self._consumer.poll(timeout_ms=round(timeout * 1000), max_records=limit)
                except _errors.OffsetOutOfRangeError as error:
                    fetched.out_of_range.update(map(self._name, error.args[0]))
                    return fetched
        except _MENDS_ITSELF:
            return fetched
        for place, consumed in found.items():
            fetched.records[self._name(place)] = self._records(self._name(place).topic, consumed)
        self._step_over(fetched)
        return fetched

    def _records(self, topic: str, consumed: Iterable[Any]) -> list[Record]:
        return [
            Record(
                topic,
                each.partition,
                each.offset,
                each.timestamp,
                each.key,
                tuple([(name, value or b"") for name, value in each.headers]) if each.headers else (),
                each.value or b"",
            )
            for each in consumed
        ]

    def _step_over(self, fetched: Fetched) -> None:
        """Positions that moved, for offsets that will never hold a record."""
        for place in self._consumer.assignment():
            position = self._consumer._subscription.assignment[place].position  # noqa: SLF001
            name = self._name(place)
            if position is not None and self._positions.get(name) != position.offset:
                self._positions[name] = fetched.positions[name] = position.offset

    def _name(self, place: Any) -> TopicPartition:  # noqa: ANN401
        return TopicPartition(self._settings.short(place.topic) or place.topic, place.partition)

    def _place(self, partition: TopicPartition) -> Any:  # noqa: ANN401
        return _Place(self._settings.full(partition.topic), partition.partition)


class PureMember(_Reading):
    """A consumer in a group."""

    def __init__(
        self,
        settings: KafkaSettings,
        translated: Translated,
        config: Mapping[str, Any],
        topics: Sequence[str],
        *,
        gained: PartitionsMoved,
        lost: PartitionsMoved,
    ) -> None:
        super().__init__(settings, translated, config)
        self._gained = gained
        self._lost = lost
        self._consumer.subscribe(pattern=pattern(settings, topics), listener=_Moves(self))

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on with what rests since it was gained."""
        with self._translated():
            for partition, offset in offsets.items():
                self._consumer.seek(self._place(partition), offset)
            self.resume(list(offsets))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Drop what was fetched and read on there."""
        with self._translated():
            self._consumer.seek(self._place(partition), offset)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """What the library has fetched is fetched again later."""
        if partitions:
            self._consumer.pause(*map(self._place, partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on."""
        if partitions:
            self._consumer.resume(*map(self._place, partitions))

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Asked of the coordinator, one by one."""
        found: dict[TopicPartition, Commit] = {}
        for partition in partitions:
            with self._translated():
                commit = self._consumer.committed(
                    self._place(partition), metadata=True, timeout_ms=round(client.TIMEOUT * 1000)
                )
            if commit is not None and commit.offset >= 0:
                found[partition] = Commit(commit.offset, commit.metadata or "")
        return found

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Synchronous."""
        offsets = {self._place(each): _Offset(at.offset, at.note, -1) for each, at in commits.items()}
        with self._translated():
            try:
                self._consumer.commit(offsets, timeout_ms=round(client.TIMEOUT * 1000))
            except _errors.CommitFailedError as error:
                raise Fenced(str(error)) from None
            except _errors.KafkaError as error:
                if getattr(error, "errno", None) in FENCED:
                    raise Fenced(str(error)) from None
                raise

    def close(self) -> None:
        """Leaves the group before it returns."""
        self._consumer._subscription.rebalance_listener = None  # noqa: SLF001
        self._consumer.close(autocommit=False, timeout_ms=round(client.TIMEOUT * 1000))

    def gain(self, places: Iterable[Any]) -> None:
        """They rest until `start`: at a place of no meaning, so that the library asks for none."""
        places = list(places)
        self._positions.clear()
        for place in places:
            self._consumer.seek(place, 0)
        if places:
            self._consumer.pause(*places)
        self._gained([self._name(place) for place in places])

    def lose(self, places: Iterable[Any]) -> None:
        """Still ours until it returns. The library joins anew next; for changed topics it forgets that it does when the
        answer comes between two polls, unless it was asked to."""
        self._consumer._coordinator.request_rejoin()  # noqa: SLF001
        self._lost([self._name(place) for place in places])


class _Moves(_listener):  # type: ignore[misc] # the library has no types
    def __init__(self, member: PureMember) -> None:
        self._member = member

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._member.lose(revoked)

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._member.gain(assigned)


class PureReader(_Reading):
    """A consumer outside of groups."""

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Drop what was fetched of another."""
        with self._translated():
            place = self._place(partition)
            self._positions.clear()
            self._consumer.assign([place])
            self._consumer.seek(place, offset)

    def close(self) -> None:
        """Let go."""
        self._consumer.close(autocommit=False)


def pattern(settings: KafkaSettings, topics: Iterable[str]) -> str:
    """Names and `*` patterns as one regular expression of what they are on the broker."""
    each = (re.escape(settings.full(topic)).replace(r"\*", ".*") for topic in topics)
    return f"^(?:{'|'.join(each)})$"

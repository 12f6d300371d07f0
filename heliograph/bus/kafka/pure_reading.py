"""Consumers of kafka-python: a member of a group, and a reader outside of groups."""

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
_listener: Any = _kafka.ConsumerRebalanceListener
_Place: Any = _kafka.TopicPartition
_Offset: Any = _structs.OffsetAndMetadata

_TRANSIENT = (
    _errors.KafkaConnectionError,
    _errors.KafkaTimeoutError,
    _errors.NodeNotReadyError,
)
"""Errors of a poll from which the library recovers by itself."""
_TIMEOUT_MS = round(client.TIMEOUT * 1000)


class Translated(Protocol):
    """A translation of the library's exceptions into ours."""

    def __call__(self) -> AbstractContextManager[None]:
        """Translates what the block raises."""
        ...


class _Reading:
    """A consumer that turns what the library consumed into records."""

    def __init__(self, settings: KafkaSettings, translated: Translated, config: Mapping[str, Any]) -> None:
        self._settings = settings
        self._translated = translated
        self._consumer: Any = _kafka.KafkaConsumer(**config)
        self._positions: dict[TopicPartition, int] = {}

    def poll(self, limit: int, timeout: float) -> Fetched:
        """Returns what the library has fetched: nothing while a broker does not answer."""
        fetched = Fetched({}, {}, set())
        try:
            with self._translated():
                try:
                    found = self._consumer.poll(timeout_ms=round(timeout * 1000), max_records=limit)
                except _errors.OffsetOutOfRangeError as error:
                    fetched.out_of_range.update(map(self._name, error.args[0]))
                    return fetched
        except _TRANSIENT:
            return fetched
        for place, consumed in found.items():
            fetched.records[self._name(place)] = self._records(self._name(place).topic, consumed)
        self._note_positions(fetched)
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

    def _note_positions(self, fetched: Fetched) -> None:
        """Notes the positions that moved, also over offsets that will never hold a record."""
        for place in self._consumer.assignment():
            position = self._consumer.position(place, timeout_ms=0)
            name = self._name(place)
            if position is not None and self._positions.get(name) != position:
                self._positions[name] = fetched.positions[name] = position

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
        self._closing = False
        self._consumer.subscribe(pattern=pattern(settings, topics), listener=_Moves(self))

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads the partitions that have rested since they were gained."""
        with self._translated():
            for partition, offset in offsets.items():
                self._consumer.seek(self._place(partition), offset)
            self.resume(list(offsets))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Drops the fetched records and reads on there."""
        with self._translated():
            self._consumer.seek(self._place(partition), offset)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stops fetching; the library drops what it has fetched and fetches it again later."""
        if partitions:
            self._consumer.pause(*map(self._place, partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetches again."""
        if partitions:
            self._consumer.resume(*map(self._place, partitions))

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Asks the group's coordinator, partition by partition."""
        found: dict[TopicPartition, Commit] = {}
        for partition in partitions:
            with self._translated():
                commit = self._consumer.committed(
                    self._place(partition), metadata=True, timeout_ms=_TIMEOUT_MS
                )
            if commit is not None and commit.offset >= 0:
                found[partition] = Commit(commit.offset, commit.metadata or "")
        return found

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commits synchronously."""
        offsets = {self._place(each): _Offset(at.offset, at.note, -1) for each, at in commits.items()}
        with self._translated():
            try:
                self._consumer.commit(offsets, timeout_ms=_TIMEOUT_MS)
            except _errors.CommitFailedError as error:
                raise Fenced(str(error)) from None
            except _errors.KafkaError as error:
                if getattr(error, "errno", None) in FENCED:
                    raise Fenced(str(error)) from None
                raise

    def close(self) -> None:
        """Leaves the group, and waits until it has."""
        self._closing = True
        self._consumer.close(autocommit=False, timeout_ms=_TIMEOUT_MS)

    def gain(self, places: Iterable[Any]) -> None:
        """Lets gained partitions rest until `start`, paused at an arbitrary offset so that the library asks for none."""
        if self._closing:
            return
        places = list(places)
        self._positions.clear()
        for place in places:
            self._consumer.seek(place, 0)
        if places:
            self._consumer.pause(*places)
        self._gained([self._name(place) for place in places])

    def lose(self, places: Iterable[Any]) -> None:
        """Calls `lost` while the partitions are still ours, and makes the library join the group again.

        When topics have changed and the group's answer comes between two polls, the library forgets to join, unless it
        was asked to. It has no public way to ask.
        """
        if self._closing:
            return
        self._consumer._coordinator.request_rejoin()  # noqa: SLF001
        self._lost([self._name(place) for place in places])


class _Moves(_listener):  # type: ignore[misc] # the library has no types
    """Passes the library's callbacks on to a member."""

    def __init__(self, member: PureMember) -> None:
        self._member = member

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._member.lose(revoked)

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._member.gain(assigned)


class PureReader(_Reading):
    """A consumer outside of groups."""

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Reads another partition, and drops the fetched records of the one before."""
        with self._translated():
            place = self._place(partition)
            self._positions.clear()
            self._consumer.assign([place])
            self._consumer.seek(place, offset)

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close(autocommit=False)


def pattern(settings: KafkaSettings, topics: Iterable[str]) -> str:
    """Builds one regular expression of names and `*` patterns, as they are on the broker."""
    each = (re.escape(settings.full(topic)).replace(r"\*", ".*") for topic in topics)
    return f"^(?:{'|'.join(each)})$"

"""Consumers of confluent-kafka: a member of a group, and a reader outside of groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import Commit, Fenced, Fetched, PartitionsMoved
from heliograph.bus.kafka.confluent_config import Translation, consumer_config
from heliograph.bus.kafka.errors import FENCED, Code, Problem, problem_of_code
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.record import Headers, Record, TopicPartition

_RAISED = {Problem.FORBIDDEN, Problem.LOGIN}
"""Problems that a poll raises; the library recovers from all others by itself."""


def _headers(given: list[tuple[str, bytes | None]]) -> Headers:
    """Returns the headers as they are, or with an empty value in place of None, which is rare."""
    for _, value in given:
        if value is None:
            return tuple([(name, value or b"") for name, value in given])
    return cast("Headers", tuple(given))


class _Reading:
    """A consumer that turns messages into records."""

    def __init__(self, settings: KafkaSettings, config: Mapping[str, Any]) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._consumer = Consumer({**config, "error_cb": self._translated.remember})
        self._names: dict[tuple[str, int], TopicPartition] = {}

    def poll(self, limit: int, timeout: float) -> Fetched:
        """Returns what librdkafka has fetched; waits for the first message only."""
        with self._translated():
            messages = self._consumer.consume(limit, 0)
            if not messages and timeout > 0:
                first = self._consumer.poll(timeout)
                if first is not None:
                    messages = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        return self._sort(messages)

    def _sort(self, messages: Sequence[Any]) -> Fetched:
        fetched = Fetched({}, {}, set())
        records = fetched.records
        names = self._names
        for message in messages:
            error = message.error()
            if error is not None:
                self._note_error(message, error, fetched)
                continue
            place = (message.topic(), message.partition())
            at = names.get(place) or self._name(place)
            headers = message.headers()
            record = Record(
                at[0],
                at[1],
                message.offset(),
                message.timestamp()[1],
                message.key(),
                _headers(headers) if headers else (),
                message.value() or b"",
            )
            found = records.get(at)
            if found is None:
                records[at] = [record]
            else:
                found.append(record)
        return fetched

    def _name(self, place: tuple[str, int]) -> TopicPartition:
        name = TopicPartition(self._settings.short(place[0]) or place[0], place[1])
        self._names[place] = name
        return name

    def _note_error(self, message: Message, error: KafkaError, fetched: Fetched) -> None:
        """Sorts an error that librdkafka hands out as a message; raises those that need an operator."""
        place = (message.topic() or "", message.partition() or 0)
        match error.code():
            case Code.PARTITION_EOF:
                fetched.positions[self._name(place)] = message.offset() or 0
            case Code.AUTO_OFFSET_RESET:
                fetched.out_of_range.add(self._name(place))
            case Code.UNKNOWN_TOPIC_OR_PARTITION if place[0].startswith("^"):
                pass  # a pattern that matches nothing yet
            case _ if error.fatal() or problem_of_code(error.code()) in _RAISED:
                raise self._translated.error(error)
            case _:
                self._translated.remember(error)

    def _place(self, partition: TopicPartition, offset: int, note: str = "") -> Place:
        return Place(self._settings.full(partition.topic), partition.partition, offset, note)


class ConfluentMember(_Reading):
    """A consumer in a group."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group: str,
        name: str,
        *,
        gained: PartitionsMoved,
        lost: PartitionsMoved,
    ) -> None:
        super().__init__(settings, consumer_config(settings, group, name))
        self._gained = gained
        self._lost = lost
        self._closing = False
        self._at: dict[TopicPartition, int] = {}  # where each assigned partition is read on
        self._paused: set[TopicPartition] = set()
        patterns = [pattern(settings, topic) for topic in topics]
        self._consumer.subscribe(
            patterns, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def poll(self, limit: int, timeout: float) -> Fetched:
        """Polls, and keeps the position behind the last record."""
        fetched = super().poll(limit, timeout)
        for partition, records in fetched.records.items():
            self._at[partition] = records[-1].offset + 1
        self._at |= fetched.positions
        return fetched

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Assigns all gained partitions at once, since an assignment replaces the one before."""
        self._at = dict(offsets)
        self._paused = set()
        self._assign()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Drops the fetched records and reads on there. librdkafka cannot seek a partition that it has stopped because its
        position was out of range; that one is assigned again."""
        self._at[partition] = offset
        try:
            self._consumer.seek(self._place(partition, offset))
        except KafkaException as error:
            if error.args[0].code() != Code.STATE:
                raise self._translated.error(error.args[0]) from None
            self._assign()

    def _assign(self) -> None:
        with self._translated():
            places = [self._place(partition, offset) for partition, offset in self._at.items()]
            self._consumer.assign(places)
            self._consumer.resume(places)  # librdkafka remembers a pause from an earlier assignment
            self._consumer.pause([self._place(each, 0) for each in self._paused])

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stops fetching; librdkafka drops what it has fetched and fetches it again later."""
        self._paused.update(partitions)
        with self._translated():
            self._consumer.pause([self._place(each, 0) for each in partitions])

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetches again."""
        self._paused.difference_update(partitions)
        with self._translated():
            self._consumer.resume([self._place(each, 0) for each in partitions])

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Asks the group's coordinator."""
        with self._translated():
            places = [self._place(each, -1001) for each in partitions]
            return dict(
                stored_commits(self._settings, self._consumer.committed(places, timeout=client.TIMEOUT))
            )

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commits synchronously."""
        places = [self._place(each, commit.offset, commit.note) for each, commit in commits.items()]
        try:
            done = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise self._commit_error(error.args[0]) from None
        for place in done:
            if place.error is not None:
                raise self._commit_error(place.error)

    def _commit_error(self, error: KafkaError) -> Exception:
        return Fenced(error.str()) if error.code() in FENCED else self._translated.error(error)

    def close(self) -> None:
        """Leaves the group, and waits until it has."""
        self._closing = True
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[Place]) -> None:
        consumer.assign([])  # they rest until `start`
        if not self._closing:
            self._gained([self._name((place.topic, place.partition)) for place in places])

    def _revoked(self, consumer: Consumer, places: list[Place]) -> None:
        try:
            self._at, self._paused = {}, set()
            if not self._closing:
                self._lost([self._name((place.topic, place.partition)) for place in places])
        finally:
            consumer.unassign()


class ConfluentReader(_Reading):
    """A consumer outside of groups. librdkafka demands a group id; it is never used."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, consumer_config(settings, "__reader", "heliograph-reader"))

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Reads another partition, and drops the fetched records of the one before."""
        with self._translated():
            self._consumer.assign([self._place(partition, offset)])

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()


def pattern(settings: KafkaSettings, topic: str) -> str:
    """Builds the regular expression of a name or `*` pattern, as it is on the broker. A name becomes one, too, since
    librdkafka reports a subscribed name that does not exist yet as an error."""
    return f"^{settings.full(topic).replace('.', '[.]').replace('*', '.*')}$"


def stored_commits(settings: KafkaSettings, places: Sequence[Any]) -> Iterator[tuple[TopicPartition, Commit]]:
    """Yields the commits of the namespace among what the library answers."""
    for place in places:
        topic = settings.short(place.topic)
        if place.error is not None:
            raise KafkaException(place.error)
        if topic is not None and place.offset >= 0:
            yield TopicPartition(topic, place.partition), Commit(place.offset, place.metadata or "")

"""Errors of both Kafka clients, as one list of problems with their remedies.

An error that no table names is `Problem.OTHER`, so that no exception of a library leaves this folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum

from schemas.errors import BusError, BusUnavailable, RecordTooLarge, TopicMissing


class Code(IntEnum):
    """Error codes of the protocol (Apache Kafka protocol guide), which both clients share, and below zero those that
    librdkafka makes itself (`RD_KAFKA_RESP_ERR__…`). confluent-kafka has the latter as attributes with a leading
    underscore only, which is why their numbers stand here."""

    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    INVALID_TOPIC = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    TOPIC_ALREADY_EXISTS = 36
    INVALID_REPLICATION_FACTOR = 38
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    FENCED_INSTANCE_ID = 82

    TRANSPORT = -195
    RESOLVE = -193
    MSG_TIMED_OUT = -192
    PARTITION_EOF = -191
    UNKNOWN_PARTITION = -190
    UNKNOWN_TOPIC = -188
    ALL_BROKERS_DOWN = -187
    TIMED_OUT = -185
    SSL = -181
    WAIT_COORD = -180
    STATE = -172
    AUTHENTICATION = -169
    NO_OFFSET = -168
    FENCED = -144
    ASSIGNMENT_LOST = -142
    AUTO_OFFSET_RESET = -140


class Problem(Enum):
    """A kind of failure: our exception for it, and a message with the remedy. `{url}` is the URL without secrets."""

    SILENT = BusUnavailable, "{url}: no broker answers; check the servers in bus.url and that they run"
    HOST = BusUnavailable, "{url}: a host in it is not known; check the servers in bus.url"
    LOGIN = (
        BusUnavailable,
        "{url}: the broker refuses the login; check sasl, username and password in bus.url",
    )
    TLS = BusUnavailable, "{url}: no TLS connection; check security and ca in bus.url"
    FORBIDDEN = (
        BusUnavailable,
        "{url}: not permitted; `heliograph topics --plan` prints the ACLs that are needed",
    )
    NO_TOPIC = TopicMissing, "{url}: a topic is missing; `heliograph topics --plan` prints what to create"
    NOT_CREATED = (
        TopicMissing,
        "{url}: a topic is missing and may not be created; `heliograph topics --plan` prints what to create",
    )
    TOO_LARGE = (
        RecordTooLarge,
        "{url}: a record is above the topic's max.message.bytes; raise it on the broker",
    )
    REPLICAS = (
        BusUnavailable,
        "{url}: too few replicas are in sync; start the missing brokers or lower the topic's min.insync.replicas",
    )
    REPLICATION = (
        BusUnavailable,
        "{url}: there are fewer brokers than replication in bus.url asks for; lower it or start more",
    )
    STORAGE = BusUnavailable, "{url}: the broker cannot write to its disk; see its log"
    OTHER = BusUnavailable, "{url}: the request failed; see the broker's log"

    def error(self, url: str, detail: str) -> BusError:
        """Builds the exception: one line with the place, the problem, the remedy and the client's own words."""
        kind: type[BusError] = self.value[0]
        text: str = self.value[1]
        words = " ".join(detail.split())[:200]
        return kind(f"{text.format(url=url)} ({words})" if words else text.format(url=url))


BY_CODE: Mapping[int, Problem] = {
    Code.UNKNOWN_TOPIC_OR_PARTITION: Problem.NO_TOPIC,
    Code.REQUEST_TIMED_OUT: Problem.SILENT,
    Code.MESSAGE_TOO_LARGE: Problem.TOO_LARGE,
    Code.NETWORK_EXCEPTION: Problem.SILENT,
    Code.INVALID_TOPIC: Problem.NO_TOPIC,
    Code.RECORD_LIST_TOO_LARGE: Problem.TOO_LARGE,
    Code.NOT_ENOUGH_REPLICAS: Problem.REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Problem.REPLICAS,
    Code.TOPIC_AUTHORIZATION_FAILED: Problem.FORBIDDEN,
    Code.GROUP_AUTHORIZATION_FAILED: Problem.FORBIDDEN,
    Code.CLUSTER_AUTHORIZATION_FAILED: Problem.FORBIDDEN,
    Code.UNSUPPORTED_SASL_MECHANISM: Problem.LOGIN,
    Code.ILLEGAL_SASL_STATE: Problem.LOGIN,
    Code.INVALID_REPLICATION_FACTOR: Problem.REPLICATION,
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Problem.FORBIDDEN,
    Code.KAFKA_STORAGE_ERROR: Problem.STORAGE,
    Code.SASL_AUTHENTICATION_FAILED: Problem.LOGIN,
    Code.TRANSPORT: Problem.SILENT,
    Code.RESOLVE: Problem.HOST,
    Code.MSG_TIMED_OUT: Problem.SILENT,
    Code.UNKNOWN_PARTITION: Problem.NO_TOPIC,
    Code.UNKNOWN_TOPIC: Problem.NO_TOPIC,
    Code.ALL_BROKERS_DOWN: Problem.SILENT,
    Code.TIMED_OUT: Problem.SILENT,
    Code.SSL: Problem.TLS,
    Code.WAIT_COORD: Problem.SILENT,
    Code.AUTHENTICATION: Problem.LOGIN,
}
"""Problems by error code."""

BY_CLASS: Mapping[str, Problem] = {
    "KafkaConnectionError": Problem.SILENT,
    "KafkaTimeoutError": Problem.SILENT,
    "NoBrokersAvailable": Problem.SILENT,
    "NodeNotReadyError": Problem.SILENT,
    "MetadataEmptyBrokerList": Problem.SILENT,
}
"""Problems by class name, for exceptions of kafka-python that carry no code of the protocol."""

FENCED = frozenset(
    {
        Code.ILLEGAL_GENERATION,
        Code.UNKNOWN_MEMBER_ID,
        Code.REBALANCE_IN_PROGRESS,
        Code.FENCED_INSTANCE_ID,
        Code.STATE,
        Code.NO_OFFSET,
        Code.FENCED,
        Code.ASSIGNMENT_LOST,
    }
)
"""Codes of a commit that came after the group had moved on."""
NOT_AUTHORIZED_TO_CREATE = frozenset({Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED})
"""Codes of a topic that may not be created."""
MISSING = frozenset({Code.UNKNOWN_TOPIC_OR_PARTITION, Code.UNKNOWN_TOPIC, Code.UNKNOWN_PARTITION})
"""Codes of a partition that does not exist."""
UNDELETABLE_GROUP = frozenset({Code.NON_EMPTY_GROUP, Code.GROUP_ID_NOT_FOUND})
"""Codes of a group that still has members, or has gone."""


def problem_of_code(code: int) -> Problem:
    """Finds the problem that a code of confluent-kafka means."""
    return BY_CODE.get(code, Problem.OTHER)


def problem_of_exception(error: BaseException) -> Problem:
    """Finds the problem that an exception of kafka-python means: by its code, else by its class or a base class."""
    code = getattr(error, "errno", None)
    if isinstance(code, int) and code in BY_CODE:
        return BY_CODE[code]
    names = (each.__name__ for each in type(error).__mro__)
    return next((BY_CLASS[name] for name in names if name in BY_CLASS), Problem.OTHER)

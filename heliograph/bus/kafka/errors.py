"""What can go wrong with a cluster, and what to do about it: one list of problems, one table of codes for each client.

What neither table names is `Problem.OTHER`, so that no foreign error leaves this folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from schemas.errors import BusError, BusUnavailable, RecordTooLarge, TopicMissing


class Problem(Enum):
    """A kind of failure: which of our errors it is, and the remedy. `{url}` is the URL as it may be shown."""

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
        """One line: where, what, the remedy, and the client's own words."""
        kind: type[BusError] = self.value[0]
        text: str = self.value[1]
        words = " ".join(detail.split())[:200]
        return kind(f"{text.format(url=url)} ({words})" if words else text.format(url=url))


BY_CODE: Mapping[int, Problem] = {
    3: Problem.NO_TOPIC,
    7: Problem.SILENT,
    10: Problem.TOO_LARGE,
    13: Problem.SILENT,
    17: Problem.NO_TOPIC,
    18: Problem.TOO_LARGE,
    19: Problem.REPLICAS,
    20: Problem.REPLICAS,
    29: Problem.FORBIDDEN,
    30: Problem.FORBIDDEN,
    31: Problem.FORBIDDEN,
    33: Problem.LOGIN,
    34: Problem.LOGIN,
    38: Problem.REPLICATION,
    53: Problem.FORBIDDEN,
    56: Problem.STORAGE,
    58: Problem.LOGIN,
}
"""By the protocol's error codes (Apache Kafka protocol guide), which both clients share."""

CONFLUENT: Mapping[int, Problem] = {
    -195: Problem.SILENT,
    -193: Problem.HOST,
    -192: Problem.SILENT,
    -190: Problem.NO_TOPIC,
    -188: Problem.NO_TOPIC,
    -187: Problem.SILENT,
    -185: Problem.SILENT,
    -181: Problem.TLS,
    -180: Problem.SILENT,
    -169: Problem.LOGIN,
}
"""Errors that librdkafka makes itself: `RD_KAFKA_RESP_ERR__TRANSPORT` (-195), `__RESOLVE` (-193), `__MSG_TIMED_OUT`,
`__UNKNOWN_PARTITION`, `__UNKNOWN_TOPIC`, `__ALL_BROKERS_DOWN`, `__TIMED_OUT`, `__SSL`, `__WAIT_COORD`,
`__AUTHENTICATION`."""

PURE: Mapping[str, Problem] = {
    "KafkaConnectionError": Problem.SILENT,
    "KafkaTimeoutError": Problem.SILENT,
    "NoBrokersAvailable": Problem.SILENT,
    "NodeNotReadyError": Problem.SILENT,
    "MetadataEmptyBrokerList": Problem.SILENT,
}
"""Errors of kafka-python that carry no code of the protocol, by the name of their class."""

FENCED = frozenset({22, 25, 27, 82, -172, -168, -144, -142})
"""Codes that tell a late commit: illegal generation, unknown member, rebalance in progress, fenced instance; and of
librdkafka's own: wrong state, no offset, fenced, assignment lost."""


def confluent_problem(code: int) -> Problem:
    """What a code of confluent-kafka means."""
    return CONFLUENT.get(code) or BY_CODE.get(code, Problem.OTHER)


def pure_problem(error: BaseException) -> Problem:
    """What an exception of kafka-python means: by its code, or else by its class and those it derives from."""
    code = getattr(error, "errno", None)
    if isinstance(code, int) and code in BY_CODE:
        return BY_CODE[code]
    names = (each.__name__ for each in type(error).__mro__)
    return next((PURE[name] for name in names if name in PURE), Problem.OTHER)

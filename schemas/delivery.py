"""Deliveries, with their attempts and verdicts. A delivery is one event, or one execution record, for one target."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from schemas.errors import InputError
from schemas.record import FORMAT, FORMAT_VERSION, Headers, NewRecord, Position, Record
from schemas.topics import DELIVERIES, VERDICTS


class ReasonCode(enum.StrEnum):
    """Reasons why an attempt did not deliver, or why a delivery ended without one."""

    UNREACHABLE = "unreachable"  # no connection, no address, TLS failed
    TIMED_OUT = "timed-out"
    THROTTLED = "throttled"  # the receiver asked for fewer deliveries
    RECEIVER_FAILED = "receiver-failed"  # the receiver answered that it failed
    REFUSED = "refused"  # the receiver answered that it does not accept this delivery
    GONE = "gone"  # the receiver answered that it accepts no more deliveries
    FORBIDDEN = "forbidden"  # the configuration does not allow the address or module
    TOO_LARGE = "too-large"
    UNAVAILABLE = "unavailable"  # a store, queue or worker of this deployment cannot accept the delivery now
    MISCONFIGURED = "misconfigured"  # the target's settings cannot work
    NO_TARGET = "no-target"  # the target was deleted
    SUSPENDED = "suspended"  # the target is suspended, by its receiver or by an operator
    PARKED = "parked"  # too many deliveries of the ordered target are parked
    BUG = "bug"  # the sink raised an exception


class Reason(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The reason of a failure. `detail`: one line for people, without secrets. `status`: the HTTP status, 0 if there
    was no response. `address`: the remote address, as `192.0.2.7:443`, or empty if there was no connection."""

    code: ReasonCode
    detail: str = ""
    status: int = 0
    address: str = ""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The receiver has the delivery. `receipt`: the part of its answer that helps to find the delivery at the receiver.
    `status`, `address`: as in `Reason`."""

    receipt: str = ""
    status: int = 0
    address: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """The delivery may be attempted again. `after`: seconds that the receiver asked for."""

    reason: Reason
    after: float | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The receiver does not accept the delivery: it becomes a dead letter, without a retry."""

    reason: Reason


Outcome = Delivered | Retry | Rejected


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One attempt. `at`: milliseconds since the epoch; `took`: seconds. `reason`: None if the attempt delivered.
    `receipt`, `status` and `address` are set only in that case; the reason has those of a failure."""

    at: int
    took: float
    reason: Reason | None = None
    receipt: str = ""
    status: int = 0
    address: str = ""


class Attempts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The attempts so far: their number, the first, and the last three."""

    count: int = 0
    first: Attempt | None = None
    last: tuple[Attempt, ...] = ()

    def plus(self, attempt: Attempt) -> Attempts:
        """Returns these attempts with `attempt` added."""
        return Attempts(self.count + 1, self.first or attempt, (*self.last, attempt)[-3:])


class Wait(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The wait of a delivery before its next attempt.

    `due`: milliseconds since the epoch. `total`: length of the whole wait in seconds; lateness is measured against it.
    `deferrals`: number of deferrals in a row, without an attempt. `began`: start of the delivery's first wait, in
    milliseconds since the epoch.
    """

    due: int
    total: float
    deferrals: int = 0
    began: int = 0


class Delivery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One event, or one execution record, for one target.

    `source`: position of the event. `event`: the event's bytes as appended. `resource`: the event's resourceId.
    `event_time`: the timestamp of the event's record, in milliseconds since the epoch. `configuration`: the version of
    subscriptions that matched the event, an offset in the topic `subscriptions` (the next to read). `lane`: number of
    the target's lane. `key`: key of the delivery's record (`schemas.lanes`). `redrive`: id of the last redrive that
    sent the delivery again, or empty.
    """

    id: str
    source: Position
    subscription: str
    target: str
    resource: str
    event: bytes
    event_time: int
    configuration: int
    attempts: Attempts = Attempts()
    wait: Wait | None = None
    lane: int = 0
    key: bytes = b""
    redrive: str = ""


class VerdictState(enum.StrEnum):
    """The ways in which a delivery ends. If a delivery id has several verdicts, the state listed first here counts."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    DEAD = "dead"
    EXPIRED = "expired"
    MUTED = "muted"


class Exhausted(enum.StrEnum):
    """The limit or cause that made a delivery dead."""

    TRIES = "tries"
    AGE = "age"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    NO_TARGET = "no-target"
    PARKED = "parked"  # too many deliveries of an ordered target were parked


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The durable record of how a delivery ended.

    `at`: milliseconds since the epoch. `exhausted`: the limit or cause that made a delivery dead. `redrive`: as in
    `Delivery`. `by` (`user@host`) and `why`: the operator who dropped a delivery, and the reason. `opener`: the
    position of the delivered event that opened the mute of this one.
    """

    delivery: str
    state: VerdictState
    source: str
    subscription: str
    target: str
    resource: str
    at: int
    configuration: int
    attempts: Attempts
    exhausted: Exhausted | None = None
    redrive: str = ""
    by: str = ""
    why: str = ""
    opener: str = ""


_ID_BYTES = 16
_SIXTY_FOUR_BITS = 2**63
_Decoded = TypeVar("_Decoded")


def delivery_id(log_id: str, source: Position, subscription: str, target: str) -> str:
    """Returns the id of a delivery: the same for a repeat of the delivery, and different for any other."""
    text = f"{log_id}\n{source.topic}\n{source.partition}\n{source.offset}\n{subscription}\n{target}"
    return blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()


def redriven_id(delivery: str, redrive: str) -> str:
    """Returns the id under which the redrive sends a dead letter as a new delivery. A resumed redrive gives the same
    id."""
    return blake2b(f"{delivery}\n{redrive}".encode(), digest_size=_ID_BYTES).hexdigest()


_attempts_encoder = msgspec.json.Encoder()
_attempts_decoder = msgspec.json.Decoder(Attempts)
_wait_decoder = msgspec.json.Decoder(Wait)
_verdict_decoder = msgspec.json.Decoder(Verdict)
NO_ATTEMPTS = Attempts()


def delivery_headers(delivery: Delivery) -> Headers:
    """Returns the headers of a delivery's record. They hold all fields but the event, which is the record's value."""
    headers = [
        (FORMAT, FORMAT_VERSION),
        ("delivery", delivery.id.encode()),
        ("source", str(delivery.source).encode()),
        ("subscription", delivery.subscription.encode()),
        ("target", delivery.target.encode()),
        ("resource", delivery.resource.encode()),
        ("event-time", b"%d" % delivery.event_time),
        ("configuration", b"%d" % delivery.configuration),
    ]
    if delivery.attempts.count:
        headers.append(("attempts", _attempts_encoder.encode(delivery.attempts)))
    if delivery.wait is not None:
        headers.append(("wait", _attempts_encoder.encode(delivery.wait)))
    if delivery.lane:
        headers.append(("lane", b"%d" % delivery.lane))
    if delivery.redrive:
        headers.append(("redrive", delivery.redrive.encode()))
    return tuple(headers)


def delivery_record(delivery: Delivery, topic: str = DELIVERIES) -> NewRecord:
    """Returns a delivery as a record: the key of its lane, the event's bytes as value, the other fields as headers."""
    key = delivery.key or delivery.target.encode()
    return NewRecord(topic, delivery.event, key, delivery_headers(delivery))


def read_delivery(record: Record) -> Delivery:
    """Reads a record of `deliveries`, the wheel or `dead-letters`. Raises KeyError or ValueError for any other
    record."""
    headers = dict(record.headers)
    attempts = headers.get("attempts")
    wait = headers.get("wait")
    try:
        source = Position.parse(headers["source"].decode())
    except InputError as error:
        raise ValueError(f"header source: {error}") from error
    return Delivery(
        id=headers["delivery"].decode(),
        source=source,
        subscription=headers["subscription"].decode(),
        target=headers["target"].decode(),
        resource=headers["resource"].decode(),
        event=record.value,
        event_time=_number(headers, "event-time"),
        configuration=_number(headers, "configuration"),
        attempts=NO_ATTEMPTS if attempts is None else _decoded(_attempts_decoder.decode, attempts),
        wait=None if wait is None else _decoded(_wait_decoder.decode, wait),
        lane=_number(headers, "lane") if "lane" in headers else 0,
        key=record.key or b"",
        redrive=headers["redrive"].decode() if "redrive" in headers else "",
    )


def read_wait(record: Record) -> Wait | None:
    """Reads only the wait of a delivery's record; returns None if it has none. Raises ValueError for an invalid
    wait."""
    wait = record.header("wait")
    return None if wait is None else _decoded(_wait_decoder.decode, wait)


def encode_verdict(verdict: Verdict) -> bytes:
    """Returns a verdict as JSON, the value of its record."""
    return _attempts_encoder.encode(verdict)


def verdict_record(verdict: Verdict) -> NewRecord:
    """Returns a verdict as a record: the target as key, and the state as a header, so that readers can filter by it."""
    headers = ((FORMAT, FORMAT_VERSION), ("state", verdict.state.encode()))
    return NewRecord(VERDICTS, encode_verdict(verdict), verdict.target.encode(), headers)


def read_verdict(value: bytes) -> Verdict:
    """Reads the value of a record of `verdicts`. Raises ValueError for any other value."""
    return _decoded(_verdict_decoder.decode, value)


def _decoded(decode: Callable[[bytes], _Decoded], text: bytes) -> _Decoded:
    """Decodes untrusted JSON. Raises ValueError for invalid JSON, and also for JSON that is nested too deeply."""
    try:
        return decode(text)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _number(headers: Mapping[str, bytes], name: str) -> int:
    number = int(headers[name])
    if not -_SIXTY_FOUR_BITS <= number < _SIXTY_FOUR_BITS:
        raise ValueError(f"header {name}: expected an integer of at most 64 bits")
    return number

"""Deliveries, their attempts, and their verdicts. A delivery is one event for one target of one subscription."""

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
    THROTTLED = "throttled"  # the receiver asked for less
    RECEIVER_FAILED = "receiver-failed"  # it answered that it failed
    REFUSED = "refused"  # it answered that it does not accept this delivery
    GONE = "gone"  # it answered that it accepts no more deliveries
    FORBIDDEN = "forbidden"  # the configuration does not allow the address or module
    TOO_LARGE = "too-large"
    UNAVAILABLE = "unavailable"  # a store, a queue or a worker of this deployment cannot accept it now
    MISCONFIGURED = "misconfigured"  # the target's settings cannot work
    NO_TARGET = "no-target"  # the target was deleted
    SUSPENDED = "suspended"  # the target is suspended, by its receiver or by an operator
    PARKED = "parked"  # too many deliveries of the ordered target are parked
    BUG = "bug"  # the sink raised


class Reason(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The reason of a failure. `detail`: one line for people, without secrets. `status`: the HTTP status, 0 if there is
    none. `address`: of the connection, as `192.0.2.7:443`; empty if there was none."""

    code: ReasonCode
    detail: str = ""
    status: int = 0
    address: str = ""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The receiver has the delivery. `receipt`: the part of its answer that helps to find the delivery there. `status`,
    `address`: as in `Reason`."""

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
    """One attempt. `at`: milliseconds since the epoch; `took`: seconds. `reason`: None if it was delivered; only then
    `receipt`, `status` and `address` are set, and otherwise they are in the reason."""

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
        """Returns these attempts and one more."""
        return Attempts(self.count + 1, self.first or attempt, (*self.last, attempt)[-3:])


class Wait(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The wait of a delivery before its next attempt.

    `due`: milliseconds since the epoch. `total`: seconds of the whole wait, by which lateness is measured. `deferrals`:
    number of deferrals in a row, without an attempt. `began`: start of its first wait, milliseconds since the epoch.
    """

    due: int
    total: float
    deferrals: int = 0
    began: int = 0


class Delivery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One event for one target of one subscription.

    `source`: position of the event. `event`: its bytes as appended. `resource`: its resourceId. `event_time`: its
    timestamp in milliseconds since the epoch. `configuration`: version that it was matched under, a position in the
    topic `subscriptions` (the next offset to read). `lane`: number of its lane of the target. `key`: key of its record
    (`schemas.lanes`). `redrive`: id of the last redrive that sent it again, empty if there was none.
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
    """The ways in which a delivery ends, by precedence: of several verdicts of one id, the first of these counts."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    DEAD = "dead"
    EXPIRED = "expired"
    MUTED = "muted"


class Exhausted(enum.StrEnum):
    """The limit that a dead delivery met."""

    TRIES = "tries"
    AGE = "age"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    NO_TARGET = "no-target"
    PARKED = "parked"  # too many deliveries of an ordered target were parked


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The durable record of how a delivery ended.

    `at`: milliseconds since the epoch. `exhausted`: the limit that a dead delivery met. `redrive`: as in `Delivery`.
    `by` (`user@host`) and `why`: who dropped a dropped delivery, and why. `opener`: the position of the event that was
    delivered and muted this one.
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
    """Returns the id of a delivery. A repeat has the same id, and no other delivery has it."""
    text = f"{log_id}\n{source.topic}\n{source.partition}\n{source.offset}\n{subscription}\n{target}"
    return blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()


def redriven_id(delivery: str, redrive: str) -> str:
    """Returns the new id of a delivery that a redrive sends as new. A resumed redrive gives the same id."""
    return blake2b(f"{delivery}\n{redrive}".encode(), digest_size=_ID_BYTES).hexdigest()


_attempts_encoder = msgspec.json.Encoder()
_attempts_decoder = msgspec.json.Decoder(Attempts)
_wait_decoder = msgspec.json.Decoder(Wait)
_verdict_decoder = msgspec.json.Decoder(Verdict)
NO_ATTEMPTS = Attempts()


def delivery_headers(delivery: Delivery) -> Headers:
    """Returns the headers of a delivery: with the event's bytes as value, they hold all of it."""
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
    """Reads a record of `deliveries`, the wheel or `dead-letters`; KeyError or ValueError if it is no delivery."""
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
    """Reads only the wait of a delivery's record; None if it has none. Raises ValueError if it is unreadable."""
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
    """Reads the value of a record of `verdicts`; raises ValueError if it is no verdict."""
    return _decoded(_verdict_decoder.decode, value)


def _decoded(decode: Callable[[bytes], _Decoded], text: bytes) -> _Decoded:
    """Decodes untrusted JSON; raises ValueError also if it is nested too deeply."""
    try:
        return decode(text)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _number(headers: Mapping[str, bytes], name: str) -> int:
    number = int(headers[name])
    if not -_SIXTY_FOUR_BITS <= number < _SIXTY_FOUR_BITS:
        raise ValueError(f"header {name}: expected an integer of at most 64 bits")
    return number

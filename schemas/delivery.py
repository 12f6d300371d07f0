"""Deliveries: one event for one target of one subscription, what came of it, and the record of how it ended."""

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
    """Why a delivery was not delivered, or not yet."""

    UNREACHABLE = "unreachable"  # no connection, no address, TLS failed
    TIMED_OUT = "timed-out"
    THROTTLED = "throttled"  # the receiver asked for less
    RECEIVER_FAILED = "receiver-failed"  # it answered, and said that it failed
    REFUSED = "refused"  # it answered that it does not want this delivery
    GONE = "gone"  # it answered that it wants no delivery any more
    FORBIDDEN = "forbidden"  # our own guard: an address or module that the configuration does not allow
    TOO_LARGE = "too-large"
    UNAVAILABLE = "unavailable"  # a store, a queue or a worker of ours cannot take it now
    MISCONFIGURED = "misconfigured"  # the target's settings cannot work
    NO_TARGET = "no-target"  # the target was deleted
    SUSPENDED = "suspended"  # the target is suspended, by its receiver or by an operator
    PARKED = "parked"  # too many deliveries of an ordered target wait for others of their resources
    BUG = "bug"  # the sink raised


class Reason(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`detail`: one line for a person, without secrets. `status`: the HTTP status, 0 where there is none. `address`:
    what was connected to, as `192.0.2.7:443`; empty where nothing was."""

    code: ReasonCode
    detail: str = ""
    status: int = 0
    address: str = ""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The receiver has it. `receipt`: what it answered that helps to find it again; `status` and `address` as in
    `Reason`."""

    receipt: str = ""
    status: int = 0
    address: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Not now. `after`: seconds that the receiver asked us to wait."""

    reason: Reason
    after: float | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Never retried: goes to the dead letters."""

    reason: Reason


Outcome = Delivered | Retry | Rejected


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One try. `at`: milliseconds since the epoch; `took`: seconds. `reason` None: it was delivered, and the rest is of
    the answer; what did not get through has it in its reason."""

    at: int
    took: float
    reason: Reason | None = None
    receipt: str = ""
    status: int = 0
    address: str = ""


class Attempts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The tries so far: the first, the last three, and how many there were."""

    count: int = 0
    first: Attempt | None = None
    last: tuple[Attempt, ...] = ()

    def plus(self, attempt: Attempt) -> Attempts:
        """These tries and one more."""
        return Attempts(self.count + 1, self.first or attempt, (*self.last, attempt)[-3:])


class Wait(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A delivery that waits. `due`: milliseconds since the epoch; `total`: seconds of the whole wait, by which lateness
    is measured; `deferrals`: how often in a row a lane put it off without trying; `began`: when it first had to wait,
    milliseconds since the epoch."""

    due: int
    total: float
    deferrals: int = 0
    began: int = 0


class Delivery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One event for one target of one subscription.

    `source` is the event's position, `event` its bytes as appended, `resource` its resourceId, `event_time` the
    log's time of it in milliseconds; `configuration` is the position in the topic `subscriptions` (the next offset
    to read) that it was matched under. `lane` and `key` are what places it: its lane of the target, and the key of its
    record (`schemas.lanes`). `redrive`: id of the redrive that brought it back, empty the first time.
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
    """How a delivery ended, in order of precedence: of several verdicts of one id the first of these holds."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    DEAD = "dead"
    EXPIRED = "expired"
    MUTED = "muted"


class Exhausted(enum.StrEnum):
    """Which limit a dead delivery met."""

    TRIES = "tries"
    AGE = "age"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    NO_TARGET = "no-target"
    PARKED = "parked"  # an ordered target had too many waiting


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
    """The id of a delivery: the same for every repeat of it, another for everything else."""
    text = f"{log_id}\n{source.topic}\n{source.partition}\n{source.offset}\n{subscription}\n{target}"
    return blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()


def redriven_id(delivery: str, redrive: str) -> str:
    """The id of what a redrive sends as new in place of a delivery: the same each time that the redrive is resumed."""
    return blake2b(f"{delivery}\n{redrive}".encode(), digest_size=_ID_BYTES).hexdigest()


_attempts_encoder = msgspec.json.Encoder()
_attempts_decoder = msgspec.json.Decoder(Attempts)
_wait_decoder = msgspec.json.Decoder(Wait)
_verdict_decoder = msgspec.json.Decoder(Verdict)
NO_ATTEMPTS = Attempts()


def delivery_headers(delivery: Delivery) -> Headers:
    """The headers that, with the event's bytes as value, are the whole delivery."""
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
    """The delivery as a record: key = its lane, value = the event's original bytes, headers say why."""
    key = delivery.key or delivery.target.encode()
    return NewRecord(topic, delivery.event, key, delivery_headers(delivery))


def read_delivery(record: Record) -> Delivery:
    """The delivery that a record of `deliveries`, the wheel or `dead-letters` holds; KeyError or ValueError if none."""
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
    """The wait of a delivery's record, without reading the rest; None if it has none. ValueError if unreadable."""
    wait = record.header("wait")
    return None if wait is None else _decoded(_wait_decoder.decode, wait)


def encode_verdict(verdict: Verdict) -> bytes:
    """A verdict as the JSON value of its record."""
    return _attempts_encoder.encode(verdict)


def verdict_record(verdict: Verdict) -> NewRecord:
    """A verdict as a record: its key is the target, and a header has the state for those who only choose."""
    headers = ((FORMAT, FORMAT_VERSION), ("state", verdict.state.encode()))
    return NewRecord(VERDICTS, encode_verdict(verdict), verdict.target.encode(), headers)


def read_verdict(value: bytes) -> Verdict:
    """The verdict that the value of a record of `verdicts` holds; ValueError if none."""
    return _decoded(_verdict_decoder.decode, value)


def _decoded(decode: Callable[[bytes], _Decoded], text: bytes) -> _Decoded:
    """What JSON from anybody holds; ValueError also where it is nested too deeply to be read."""
    try:
        return decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _number(headers: Mapping[str, bytes], name: str) -> int:
    number = int(headers[name])
    if not -_SIXTY_FOUR_BITS <= number < _SIXTY_FOUR_BITS:
        raise ValueError(f"header {name}: has more than 64 bits")
    return number

"""What keeps deliveries from a target: durable conditions, one record of the topic `state` each."""

from __future__ import annotations

import enum

import msgspec

from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.topics import STATE


class TargetStatus(enum.StrEnum):
    """How a target stands, the gravest first."""

    SUSPENDED = "suspended"  # until an operator resumes it; its deliveries become dead letters
    OPEN = "open"  # it failed too often and is left alone; then one delivery probes it
    THROTTLED = "throttled"  # it asked for less, or does not keep up
    ACTIVE = "active"


GRAVITY = {status: place for place, status in enumerate(reversed(TargetStatus))}
"""0 for a target that is active, and more the graver."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a target gets nothing.

    `since`, `until`: milliseconds since the epoch; `until` 0: until somebody lifts it. `times`: how often in a row,
    by which pauses grow. `why`: one line, without secrets. `by`: the member of a group or the person who saw to it.
    """

    target: str
    status: TargetStatus
    since: int
    until: int = 0
    times: int = 1
    why: str = ""
    by: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Condition)


def condition_record(condition: Condition) -> NewRecord:
    """The record that puts a condition in place of the one of its target and status."""
    return _record(condition.target, condition.status, _encoder.encode(condition))


def lifted_record(target: str, status: TargetStatus) -> NewRecord:
    """The record that lifts a condition."""
    return _record(target, status, b"")


def read_condition(record: Record) -> Condition | tuple[str, TargetStatus]:
    """The condition that a record of `state` holds, or the target and status of the one it lifts; ValueError if
    neither."""
    if record.value:
        try:
            return _decoder.decode(record.value)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    status, _, target = (record.key or b"").decode().partition(":")
    return target, TargetStatus(status)


def _record(target: str, status: TargetStatus, value: bytes) -> NewRecord:
    return NewRecord(STATE, value, f"{status}:{target}".encode(), ((FORMAT, FORMAT_VERSION),))

"""Conditions of targets, each stored as a record of the topic `state`."""

from __future__ import annotations

import enum

import msgspec

from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.topics import STATE


class TargetStatus(enum.StrEnum):
    """The states of a target, the gravest first."""

    SUSPENDED = "suspended"  # until an operator resumes it; its deliveries become dead letters
    OPEN = "open"  # its breaker is open after too many failures; later, one delivery probes it
    THROTTLED = "throttled"  # it asked for fewer deliveries, or did not answer in time
    ACTIVE = "active"


GRAVITY = {status: place for place, status in enumerate(reversed(TargetStatus))}
"""Values of the metric: 0 for an active target, and higher for graver states."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A state of a target in which nothing is sent to it as usual, with its reason.

    `since`, `until`: milliseconds since the epoch; an `until` of 0 means until the condition is lifted. `times`: how
    often in a row the condition was set; pauses grow with it. `why`: one line, without secrets. `by`: the group member
    or person that set the condition.
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
    """Builds the record of a condition. It replaces the earlier record of the same target and status."""
    return _record(condition.target, condition.status, _encoder.encode(condition))


def lifted_record(target: str, status: TargetStatus) -> NewRecord:
    """Builds the record that lifts a condition."""
    return _record(target, status, b"")


def read_condition(record: Record) -> Condition | tuple[str, TargetStatus]:
    """Reads a record of `state`. Returns its condition, or the target and status of the condition that it lifts.

    Raises ValueError for any other record.
    """
    if record.value:
        try:
            return _decoder.decode(record.value)
        except RecursionError as error:
            raise ValueError("JSON is nested too deeply") from error
    status, _, target = (record.key or b"").decode().partition(":")
    return target, TargetStatus(status)


def _record(target: str, status: TargetStatus, value: bytes) -> NewRecord:
    return NewRecord(STATE, value, f"{status}:{target}".encode(), ((FORMAT, FORMAT_VERSION),))

"""Conditions that hold a target back: one record of the topic `state` each."""

from __future__ import annotations

import enum

import msgspec

from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.topics import STATE


class TargetStatus(enum.StrEnum):
    """The states of a target, the gravest first."""

    SUSPENDED = "suspended"  # until an operator resumes it; its deliveries become dead letters
    OPEN = "open"  # its breaker is open: it failed too often; after the rest, one delivery probes it
    THROTTLED = "throttled"  # it asked for less, or did not answer in time
    ACTIVE = "active"


GRAVITY = {status: place for place, status in enumerate(reversed(TargetStatus))}
"""Numbers for the metric: 0 for an active target, and higher for graver states."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The reason why a target gets nothing, or only probes.

    `since`, `until`: milliseconds since the epoch; `until` 0: until it is lifted. `times`: number of times in a row, by
    which pauses grow. `why`: one line, without secrets. `by`: the group member or person that set it.
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
    """Returns the record of a condition. It replaces the earlier one of the same target and status."""
    return _record(condition.target, condition.status, _encoder.encode(condition))


def lifted_record(target: str, status: TargetStatus) -> NewRecord:
    """Returns the record that lifts a condition."""
    return _record(target, status, b"")


def read_condition(record: Record) -> Condition | tuple[str, TargetStatus]:
    """Reads a record of `state`: a condition, or target and status of the one that is lifted.

    Raises ValueError if it is neither.
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

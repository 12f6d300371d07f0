"""Follows the states of executions by reading their records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from heliograph.bus.base import Bus
from producers.assistant.policy import is_immediate, is_too_late
from producers.assistant.requests import Invocation
from producers.assistant.signing import WINDOW
from schemas.errors import InputError
from schemas.execution import ExecutionRecord, ExecutionState, InstanceState, check_execution, execution_state
from schemas.record import Record, TopicPartition
from schemas.topics import EXECUTIONS

Cursors = dict[TopicPartition, int]


class _Key(msgspec.Struct, rename="pascal"):
    invoke_id: str


_key = msgspec.json.Decoder(_Key).decode


def end_cursors(bus: Bus) -> Cursors:
    """Returns cursors at the end of `executions`, from which only new records are read."""
    return {partition: extent.end for partition, extent in bus.extents(EXECUTIONS).items()}


def cursors_since(bus: Bus, time: int) -> Cursors:
    """Returns cursors from which to read the records of requests sent at `time`; they allow for wrong clocks."""
    return {partition: bus.offset_at(partition, time - WINDOW) for partition in bus.extents(EXECUTIONS)}


class Follower:
    """Keeps the newest record of each instance of the executions of `invocations`. Reads each partition from its
    cursor, or from its start if it has none."""

    def __init__(self, bus: Bus, invocations: Sequence[Invocation], cursors: Cursors) -> None:
        self._bus = bus
        self._invocations = {one.invoke_id: one for one in invocations}
        self._cursors = dict(cursors)
        self._newest: dict[str, dict[str, ExecutionRecord]] = {one.invoke_id: {} for one in invocations}

    def read(self) -> Sequence[ExecutionRecord]:
        """Reads all new records; returns the records that changed a state, in order."""
        changed: list[ExecutionRecord] = []
        for partition, extent in self._bus.extents(EXECUTIONS).items():
            cursor = self._cursors.get(partition, extent.start)
            while cursor < extent.end and (records := self._bus.read(partition, cursor).records):
                found = map(self._record, records)
                changed.extend(one for one in found if one is not None and self._take(one))
                cursor = records[-1].offset + 1
            self._cursors[partition] = cursor
        return changed

    def newest(self, invoke_id: str) -> Mapping[str, ExecutionRecord]:
        """Returns the newest record of each instance that has one."""
        return self._newest[invoke_id]

    def answered(self) -> bool:
        """True if every instance has answered: with a final record or, for a scheduled command, with any record."""
        return all(
            (record := self._newest[one.invoke_id].get(instance)) is not None
            and (record.invocation_status.final or not is_immediate(one))
            for one in self._invocations.values()
            for instance in one.instances
        )

    def state(self, invoke_id: str, now: int, stopped: Collection[str] = ()) -> ExecutionState:
        """Returns the state of an execution over all its instances.

        `stopped`: instances with a request to stop the execution. An instance without a record counts as stopped if it
        is among these, as failed if agents would no longer start the run, and else as running.
        """
        invocation, newest = self._invocations[invoke_id], self._newest[invoke_id]
        unheard = InstanceState.FAILED if is_too_late(invocation, now) else InstanceState.RUNNING
        return execution_state(
            [
                newest[instance].instance_state
                if instance in newest
                else InstanceState.STOPPED
                if instance in stopped
                else unheard
                for instance in invocation.instances
            ]
        )

    def _record(self, record: Record) -> ExecutionRecord | None:
        try:
            if _key(record.value).invoke_id in self._invocations:
                return check_execution(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, InputError, RecursionError):
            pass  # the router reports invalid records
        return None

    def _take(self, record: ExecutionRecord) -> bool:
        newest = self._newest[record.key.invoke_id]
        known = newest.get(record.instance_id)
        if known is not None and known.key.repeats > record.key.repeats:
            return False
        newest[record.instance_id] = record
        same = known is not None and (known.key, known.invocation_status) == (
            record.key,
            record.invocation_status,
        )
        return not same

"""Builds the records that follow from a match: a delivery, or a verdict `muted`, for each target of a subscription."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.base import Bus
from heliograph.bus.partition import partition_for
from router.match.index import Match
from schemas.delivery import (
    NO_ATTEMPTS,
    Delivery,
    Verdict,
    VerdictState,
    delivery_id,
    delivery_record,
    verdict_record,
)
from schemas.delivery_settings import DeliverySettings
from schemas.execution import ExecutionRecord
from schemas.lanes import lane_key, lane_of
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Position, Record
from schemas.subscription import Target
from schemas.topics import DELIVERIES

_FORMAT = (FORMAT, FORMAT_VERSION)
_Header = tuple[str, bytes]


class Deliveries:
    """Builds delivery records under one version of the subscriptions.

    The records equal those of `schemas.delivery.delivery_record`; headers that are the same for all events are built
    once. `partitions`: number of partitions of `deliveries`.
    """

    def __init__(self, log_id: str, version: int, partitions: int) -> None:
        self._log_id = log_id
        self._version = version
        self._partitions = partitions
        self._configuration = ("configuration", b"%d" % version)
        self._constant: dict[tuple[str, str], tuple[_Header, _Header]] = {}
        self._lanes: dict[tuple[str, int], tuple[bytes, tuple[_Header, ...]]] = {}

    def build(self, record: Record, resource: str, matches: Sequence[Match]) -> list[NewRecord]:
        """Builds the deliveries of an event, with its bytes unchanged. `resource`: its resourceId."""
        position = record.position
        source = ("source", str(position).encode())
        about = ("resource", resource.encode())
        time = ("event-time", b"%d" % record.timestamp)
        made: list[NewRecord] = []
        for name, targets, _ in matches:
            for target in targets:
                subscription_header, target_header = self._headers(name, target.id)
                key, lane = self._lane(target, resource)
                identity = ("delivery", delivery_id(self._log_id, position, name, target.id).encode())
                headers = (
                    _FORMAT,
                    identity,
                    source,
                    subscription_header,
                    target_header,
                    about,
                    time,
                    self._configuration,
                    *lane,
                )
                made.append(NewRecord(DELIVERIES, record.value, key, headers))
        return made

    def build_muted(self, record: Record, resource: str, match: Match, opener: Position) -> list[NewRecord]:
        """Builds the verdicts of a muted event. `opener`: the event that was delivered and mutes it."""
        return [
            verdict_record(
                Verdict(
                    delivery=delivery_id(self._log_id, record.position, match.subscription, target.id),
                    state=VerdictState.MUTED,
                    source=str(record.position),
                    subscription=match.subscription,
                    target=target.id,
                    resource=resource,
                    at=record.timestamp,
                    configuration=self._version,
                    attempts=NO_ATTEMPTS,
                    opener=str(opener),
                )
            )
            for target in match.targets
        ]

    def _lane(self, target: Target, resource: str) -> tuple[bytes, tuple[_Header, ...]]:
        """Returns the record's key for the lane of the resource, and the lane's header; the first lane of a target has
        no header."""
        lane = lane_of(target, resource)
        known = self._lanes.get((target.id, lane))
        if known is None:
            key = lane_key(target.id, lane, self._partitions, partition_for)
            known = (key, (("lane", b"%d" % lane),) if lane else ())
            self._lanes[target.id, lane] = known
        return known

    def _headers(self, subscription: str, target: str) -> tuple[_Header, _Header]:
        known = self._constant.get((subscription, target))
        if known is None:
            known = (("subscription", subscription.encode()), ("target", target.encode()))
            self._constant[subscription, target] = known
        return known


class RecordDeliveries:
    """Builds the deliveries of execution records under one version; the same record gives the same deliveries."""

    def __init__(self, bus: Bus, version: int) -> None:
        self._log_id = bus.log_id
        self._partitions = bus.topics()[DELIVERIES]
        self._version = version

    def build(
        self, record: Record, execution: ExecutionRecord, settings: DeliverySettings, log_id: str = ""
    ) -> list[NewRecord]:
        """Builds a delivery for each store in the settings, with the record's bytes unchanged.

        `log_id`: id of the bus that the record was read from, if it was another bus.
        """
        return [
            delivery_record(
                Delivery(
                    id=delivery_id(log_id or self._log_id, record.position, settings.name, target.id),
                    source=record.position,
                    subscription=settings.name,
                    target=target.id,
                    resource=instance_arn(execution),
                    event=record.value,
                    event_time=record.timestamp,
                    configuration=self._version,
                    key=lane_key(target.id, 0, self._partitions, partition_for),
                )
            )
            for target in settings.targets
        ]


def instance_arn(execution: ExecutionRecord) -> str:
    """Returns the ARN of the instance that ran the command."""
    owner = execution.resource_owner_uid
    return f"acs:ecs:{execution.region_id}:{owner}:instance/{execution.instance_id}"

"""The subscriptions in force, and the delivery settings that they name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import structlog
from pydantic import ValidationError

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from schemas.delivery_settings import DeliverySettings, read_in_force, region_of
from schemas.problems import without_values
from schemas.record import Record, TopicPartition
from schemas.subscription import Subscription, Target
from schemas.topics import SETTINGS, SUBSCRIPTIONS

_PARTITION = TopicPartition(SUBSCRIPTIONS, 0)
_SETTINGS = TopicPartition(SETTINGS, 0)
_log = structlog.get_logger()


class _State:
    """The content of the topic `subscriptions`. `settings`: the position in the topic `settings` that is in force."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.settings = 0


class Configuration:
    """A view of the topic `subscriptions`, read outside of groups. Belongs to one thread.

    A version is a position in that topic: the next offset to read. Nothing is read before the first `refresh`.
    `refresh` does not read delivery settings: the router calls it after each poll, and needs none.
    """

    def __init__(self, bus: Bus) -> None:
        bus.create(SUBSCRIPTIONS)
        self._bus = bus
        self._version = 0
        self._state = _State()
        self._settings: Mapping[str, DeliverySettings] | None = None

    @property
    def version(self) -> int:
        """The position up to which the topic was read."""
        return self._version

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """Subscriptions by name, in the order in which they were last applied. Includes disabled ones."""
        return MappingProxyType(self._state.subscriptions)

    def refresh(self) -> bool:
        """Reads to the end of the topic; returns True if the version changed. An unchanged topic costs one read of the
        bus."""
        version = _read(self._bus, self._version, None, self._state)
        if version == self._version:
            return False
        self._version, self._settings = version, None
        return True

    def read_settings(self) -> Mapping[str, DeliverySettings]:
        """Returns the delivery settings by region, on or off; reads them once for each version."""
        if self._settings is None:
            self._settings = _read_settings(self._bus, self._state.settings)
        return self._settings

    def read_targets(self) -> Mapping[str, Target]:
        """Returns the targets of all subscriptions and delivery settings by id.

        Includes the targets of disabled subscriptions and settings: deliveries that were matched before still need
        them.
        """
        owned = [one for owner in self._state.subscriptions.values() for one in owner.target]
        made = [one for settings in self.read_settings().values() for one in settings.targets]
        return {one.id: one for one in (*owned, *made)}

    def read_subscriptions_at(self, version: int) -> Mapping[str, Subscription]:
        """Reads the subscriptions of another version, from the start of the topic."""
        found = _State()
        _read(self._bus, 0, version, found)
        return found.subscriptions


def _read(bus: Bus, offset: int, until: int | None, into: _State) -> int:
    """Applies the records `[offset, until)` (None: to the end) to `into`; returns the next offset to read."""
    while until is None or offset < until:
        polled = bus.read(_PARTITION, offset)
        for gap in polled.gaps:
            _log.error("records of subscriptions are missing", start=gap.start, end=gap.end)
            offset = gap.end
        if not polled.records and not polled.gaps:
            break
        for record in polled.records:
            if until is not None and record.offset >= until:
                return offset
            _apply(record, into)
            offset = record.offset + 1
    return offset


def _apply(record: Record, into: _State) -> None:
    """Replaces the subscription that the record names. An unreadable record changes nothing."""
    position = read_in_force(record)
    if position is not None:
        into.settings = max(into.settings, position)
        return
    name = (record.key or b"").decode(errors="replace")
    if not record.value:
        into.subscriptions.pop(name, None)
        return
    try:
        subscription = Subscription.model_validate_json(record.value)
    except ValidationError as error:
        _log.error(
            "subscription unreadable, keeping the previous one",
            name=name,
            offset=record.offset,
            error=without_values(error),
        )
        return
    into.subscriptions.pop(subscription.name, None)
    into.subscriptions[subscription.name] = subscription


def _read_settings(bus: Bus, until: int) -> dict[str, DeliverySettings]:
    """Reads the records of `settings` before `until`, from the start of the topic."""
    found: dict[str, DeliverySettings] = {}
    for record in read_on(bus, _SETTINGS, 0, until):
        _set(record, found)
    return found


def _set(record: Record, into: dict[str, DeliverySettings]) -> None:
    region = region_of(record)
    if region is None:
        return
    if not record.value:
        into.pop(region, None)
        return
    try:
        into[region] = DeliverySettings.model_validate_json(record.value)
    except ValidationError as error:
        _log.error(
            "delivery settings unreadable, keeping the previous ones",
            region=region,
            error=without_values(error),
        )

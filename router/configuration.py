"""What is in force: the subscriptions, and the delivery settings that they name, up to a position, as it grows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import structlog
from pydantic import ValidationError

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from schemas.delivery_settings import DeliverySettings, in_force, region_of
from schemas.problems import without_values
from schemas.record import Record, TopicPartition
from schemas.subscription import Subscription, Target
from schemas.topics import SETTINGS, SUBSCRIPTIONS

_PARTITION = TopicPartition(SUBSCRIPTIONS, 0)
_SETTINGS = TopicPartition(SETTINGS, 0)
_log = structlog.get_logger()


class _State:
    """What the records of `subscriptions` say. `settings`: the position in the topic `settings` that is in force."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.settings = 0


class Configuration:
    """A view of the topic `subscriptions`, read outside of groups. Belongs to one thread.

    A version is a position in that topic: the next offset to read. Nothing is read before the first `refresh`.
    Delivery settings are read when they are asked for: the router, which reads the version after each poll, needs none.
    """

    def __init__(self, bus: Bus) -> None:
        bus.create(SUBSCRIPTIONS)
        self._bus = bus
        self._version = 0
        self._state = _State()
        self._settings: Mapping[str, DeliverySettings] | None = None
        self._targets: dict[str, Target] | None = None

    @property
    def version(self) -> int:
        """The position that `subscriptions`, `settings` and `targets` are of."""
        return self._version

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """By name, in the order in which they were last applied. Disabled ones too."""
        return MappingProxyType(self._state.subscriptions)

    @property
    def settings(self) -> Mapping[str, DeliverySettings]:
        """Delivery settings of execution records, by region; those that are switched off too."""
        if self._settings is None:
            self._settings = _settings(self._bus, self._state.settings)
        return self._settings

    @property
    def targets(self) -> Mapping[str, Target]:
        """By id, of all subscriptions and delivery settings; deliveries of what was disabled still need theirs."""
        if self._targets is None:
            owned = [one for owner in self._state.subscriptions.values() for one in owner.target]
            made = [one for settings in self.settings.values() for one in settings.targets]
            self._targets = {one.id: one for one in (*owned, *made)}
        return self._targets

    def refresh(self) -> bool:
        """Read to the end of the topic; True if the version changed. One read of the bus when nothing did."""
        version = _read(self._bus, self._version, None, self._state)
        if version == self._version:
            return False
        self._version, self._settings, self._targets = version, None, None
        return True

    def at(self, version: int) -> Mapping[str, Subscription]:
        """The subscriptions as they were at a version, read again from the topic's beginning."""
        found = _State()
        _read(self._bus, 0, version, found)
        return found.subscriptions


def _read(bus: Bus, offset: int, until: int | None, into: _State) -> int:
    """Apply the records `[offset, until)` (None: to the end) to `into`; returns the next offset to read."""
    while until is None or offset < until:
        polled = bus.read(_PARTITION, offset)
        for gap in polled.gaps:
            _log.error("subscriptions are missing from the log", start=gap.start, end=gap.end)
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
    """Later records of a name replace earlier ones; an unreadable one changes nothing."""
    position = in_force(record)
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
            "subscription unreadable, the one before it stays",
            name=name,
            offset=record.offset,
            error=without_values(error),
        )
        return
    into.subscriptions.pop(subscription.name, None)
    into.subscriptions[subscription.name] = subscription


def _settings(bus: Bus, until: int) -> dict[str, DeliverySettings]:
    """The delivery settings that the records of `settings` before `until` say, read from the topic's beginning."""
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
            "delivery settings unreadable, those before stay", region=region, error=without_values(error)
        )

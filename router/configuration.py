"""The subscriptions in force: what the topic `subscriptions` says up to a position, followed as it grows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import structlog
from pydantic import ValidationError

from heliograph.bus.base import Bus
from schemas.record import Record, TopicPartition
from schemas.subscription import Subscription, Target
from schemas.topics import SUBSCRIPTIONS

_PARTITION = TopicPartition(SUBSCRIPTIONS, 0)
_log = structlog.get_logger()


class Configuration:
    """A view of the topic `subscriptions`, read outside of groups. Belongs to one thread.

    A version is a position in that topic: the next offset to read. Nothing is read before the first `refresh`.
    """

    def __init__(self, bus: Bus) -> None:
        bus.create(SUBSCRIPTIONS)
        self._bus = bus
        self._version = 0
        self._subscriptions: dict[str, Subscription] = {}
        self._targets: dict[str, Target] | None = None

    @property
    def version(self) -> int:
        """The position that `subscriptions` and `targets` are of."""
        return self._version

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """By name, in the order in which they were last applied. Disabled ones too."""
        return MappingProxyType(self._subscriptions)

    @property
    def targets(self) -> Mapping[str, Target]:
        """By id, of all subscriptions; deliveries of a subscription that was disabled still need theirs."""
        if self._targets is None:
            self._targets = {one.id: one for owner in self._subscriptions.values() for one in owner.target}
        return self._targets

    def refresh(self) -> bool:
        """Read to the end of the topic; True if the version changed. One read of the bus when nothing did."""
        version = _read(self._bus, self._version, None, self._subscriptions)
        if version == self._version:
            return False
        self._version, self._targets = version, None
        return True

    def at(self, version: int) -> Mapping[str, Subscription]:
        """The subscriptions as they were at a version, read again from the topic's beginning."""
        found: dict[str, Subscription] = {}
        _read(self._bus, 0, version, found)
        return found


def _read(bus: Bus, offset: int, until: int | None, into: dict[str, Subscription]) -> int:
    """Apply the records `[offset, until)` (None: to the end) to `into`; returns the next offset to read."""
    while until is None or offset < until:
        polled = bus.read(_PARTITION, offset)
        for gap in polled.gaps:
            _log.error("subscriptions are missing from the log", start=gap.start, end=gap.end)
            offset = gap.end
        if not polled.records:
            break
        for record in polled.records:
            if until is not None and record.offset >= until:
                return offset
            _apply(record, into)
            offset = record.offset + 1
    return offset


def _apply(record: Record, into: dict[str, Subscription]) -> None:
    """Later records of a name replace earlier ones; an unreadable one changes nothing."""
    name = (record.key or b"").decode(errors="replace")
    if not record.value:
        into.pop(name, None)
        return
    try:
        subscription = Subscription.model_validate_json(record.value)
    except ValidationError as error:
        _log.error(
            "subscription unreadable, the one before it stays",
            name=name,
            offset=record.offset,
            error=_problem(error),
        )
        return
    into.pop(subscription.name, None)
    into[subscription.name] = subscription


def _problem(error: ValidationError) -> str:
    """One line, without what was found there: settings may hold secrets."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)

"""Changing delivery settings: set, switch off, remove. A change is durable before it is in force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heliograph.bus.base import Bus
from router.configuration import Configuration
from router.deliver.records import list_deliveries
from schemas.delivery import VerdictState
from schemas.delivery_settings import DeliverySettings, in_force_record, settings_record
from schemas.errors import InputError, NotFound
from schemas.topics import EXECUTIONS

_ENDED = frozenset(state.value for state in VerdictState)


def current(bus: Bus) -> Configuration:
    """What is in force now."""
    configuration = Configuration(bus)
    configuration.refresh()
    return configuration


def put(bus: Bus, settings: DeliverySettings) -> int:
    """Put a region's settings into force, in place of those before; returns the version from which they hold.

    The topic of the records is there afterwards, for producers that may not make topics.
    """
    bus.create(EXECUTIONS)
    return _change(bus, settings.region, settings.encode())


def remove(bus: Bus, regions: Sequence[str]) -> int:
    """Remove the settings of regions, of all or none; returns the version without them.

    Settings in use stay. Raises InputError that names each region which is switched on, or which records are still on
    their way by; NotFound for a region that has none.
    """
    known = current(bus).settings
    unknown = [region for region in regions if region not in known]
    if unknown:
        raise NotFound(f"{_listed(unknown)}: no delivery settings; there are some for {_listed(known)}")
    used = [region for region in regions if known[region].on]
    if used:
        raise InputError(
            f"delivery of execution records is on in {_listed(used)}; switch it off there first: `heliograph assistant delivery off REGION`"
        )
    waiting = _under_way(bus, {known[region].name: region for region in regions})
    if waiting:
        counted = _listed([f"{region} ({count})" for region, count in waiting.items()])
        raise InputError(
            f"records are still on their way by the settings of {counted}; wait until they are delivered, or drop them"
        )
    return max(_change(bus, region, b"") for region in regions)


def _change(bus: Bus, region: str, value: bytes) -> int:
    """Two appends: a crash between them leaves a change that is not in force, and the command failed."""
    (changed,) = bus.append([settings_record(region, value)])
    (named,) = bus.append([in_force_record(changed.offset + 1)])
    return named.offset + 1


def _under_way(bus: Bus, names: dict[str, str]) -> dict[str, int]:
    """How many deliveries have not ended, by region; `names`: regions by the name that their deliveries have."""
    found: dict[str, int] = {}
    for one in list_deliveries(bus):
        if one.state not in _ENDED and one.subscription in names:
            region = names[one.subscription]
            found[region] = found.get(region, 0) + 1
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

"""Changing delivery settings: set, switch off, remove. A change is durable before it is in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from heliograph.bus.base import Bus
from heliograph.operations.deliveries import DeliveryFilter, list_deliveries
from heliograph.operations.history import History
from router.configuration import Configuration
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

    The topic of the records is there afterwards, for producers that may not make topics. Raises InputError where a store
    is taken away that records are still on their way to.
    """
    bus.create(EXECUTIONS)
    known = current(bus).read_settings().get(settings.region)
    kept = {target.id for target in settings.targets}
    _check_unused(bus, [target.id for target in (known.targets if known else ()) if target.id not in kept])
    return _change(bus, {settings.region: settings.encode()})


def remove(bus: Bus, regions: Sequence[str]) -> int:
    """Remove the settings of regions, of all or none; returns the version without them.

    Settings in use stay. Raises InputError that names each region which is switched on, or each target which records
    are still on their way to; NotFound for a region that has none.
    """
    known = current(bus).read_settings()
    unknown = [region for region in regions if region not in known]
    if unknown:
        raise NotFound(f"{_listed(unknown)}: no delivery settings; there are some for {_listed(known)}")
    used = [region for region in regions if known[region].on]
    if used:
        raise InputError(
            f"delivery of execution records is on in {_listed(used)}; switch it off there first:"
            " `heliograph assistant delivery off REGION`"
        )
    _check_unused(bus, [target.id for region in regions for target in known[region].targets])
    return _change(bus, dict.fromkeys(regions, b""))


def _check_unused(bus: Bus, targets: Sequence[str]) -> None:
    """Raise InputError that names the targets which records are still on their way to, and how many."""
    if not targets:
        return
    states = list_deliveries(History(bus), DeliveryFilter(targets=frozenset(targets)))
    waiting = Counter(one.target for one in states if one.state not in _ENDED)
    if waiting:
        counted = _listed(f"{target} ({count})" for target, count in sorted(waiting.items()))
        raise InputError(
            f"records are still on their way to {counted}; wait until they are delivered, or let them become dead"
            " letters: `heliograph targets suspend TARGET --why REASON`"
        )


def _change(bus: Bus, values: Mapping[str, bytes]) -> int:
    """Two appends: a crash between them leaves a change that is not in force, and the command failed. `values`: of the
    records, by region."""
    changed = bus.append([settings_record(region, value) for region, value in values.items()])
    (named,) = bus.append([in_force_record(changed[-1].offset + 1)])
    return named.offset + 1


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

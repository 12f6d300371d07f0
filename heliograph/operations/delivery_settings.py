"""Delivery settings of execution records, by region: set, switch on or off, list, remove.

A change is durable before it is in force.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from heliograph.app.deployment import Deployment
from heliograph.bus.base import Bus
from heliograph.operations.deliveries import DeliveryFilter, list_deliveries
from heliograph.operations.executions import count_regions, deliver_since
from heliograph.operations.history import History
from router.configuration import Configuration
from schemas.delivery import VerdictState
from schemas.delivery_settings import DeliverySettings, in_force_record, settings_record
from schemas.errors import InputError, NotFound
from schemas.problems import problems
from schemas.topics import EXECUTIONS
from sinks.kinds import check_settings

_ENDED = frozenset(state.value for state in VerdictState)


class RegionDelivery(NamedTuple):
    """The settings of a region, None if it has none, and the number of its records in the topic `executions`."""

    region: str
    settings: DeliverySettings | None
    records: int


class Configured(NamedTuple):
    """The settings that are in force after `configure`.

    `changed`: False if the same settings were in force before. `delivered`: number of earlier records for which
    deliveries were appended.
    """

    settings: DeliverySettings
    changed: bool
    delivered: int


def read_configuration(bus: Bus) -> Configuration:
    """Reads the configuration that is in force now."""
    configuration = Configuration(bus)
    configuration.refresh()
    return configuration


def configure(
    deployment: Deployment,
    region: str,
    *,
    bucket: Mapping[str, str] | None,
    logs: Mapping[str, str] | None,
    since: int | None = None,
) -> Configured:
    """Changes the given fields of a region's bucket and log store, and switches delivery on.

    None removes the store; an empty mapping keeps its fields. `since`: also delivers the final records that were
    appended at or after this time, in milliseconds since the epoch. Raises InputError with every problem.
    """
    bus = deployment.bus
    known = read_configuration(bus).read_settings().get(region)
    settings = _change_fields(region, known, {"bucket": bucket, "logs": logs})
    if settings != known:
        put(bus, settings)
    delivered = 0 if since is None else deliver_since(bus, deployment.archive, settings, since)
    return Configured(settings, settings != known, delivered)


def switch(bus: Bus, region: str, *, on: bool) -> int:
    """Switches delivery of a region on or off; returns the version of the configuration that has the change.

    Raises NotFound.
    """
    known = read_configuration(bus).read_settings()
    if region not in known:
        raise NotFound(f"region {region!r}: has no delivery settings; regions that have some: {_join(known)}")
    return put(bus, known[region].model_copy(update={"on": on}))


def list_regions(bus: Bus, region: str = "") -> list[RegionDelivery]:
    """Lists the regions that have settings or records; with `region`, only this one. Raises NotFound if `region` has no
    settings.
    """
    known = read_configuration(bus).read_settings()
    counts = count_regions(bus)
    if region and region not in known:
        raise NotFound(
            f"region {region!r}: has no delivery settings; its {counts[region]} records stay in the topic"
            " `executions` and in the archive"
        )
    regions = [region] if region else sorted({*known, *counts})
    return [RegionDelivery(one, known.get(one), counts[one]) for one in regions]


def put(bus: Bus, settings: DeliverySettings) -> int:
    """Puts a region's settings into force in place of its earlier settings; returns the version of the configuration.

    Creates the topic `executions`, for producers that may not create topics. Raises InputError if the new settings lack
    a store to which records are still being delivered.
    """
    bus.create(EXECUTIONS)
    known = read_configuration(bus).read_settings().get(settings.region)
    kept = {target.id for target in settings.targets}
    _check_unused(bus, [target.id for target in (known.targets if known else ()) if target.id not in kept])
    return _change(bus, {settings.region: settings.encode()})


def remove(bus: Bus, regions: Sequence[str]) -> int:
    """Removes the settings of all these regions or of none; returns the version of the configuration without them.

    Raises InputError that names each region where delivery is on, or each target to which records are still being
    delivered; NotFound for a region without settings.
    """
    known = read_configuration(bus).read_settings()
    unknown = [region for region in regions if region not in known]
    if unknown:
        raise NotFound(
            f"region {_join(map(repr, unknown))}: has no delivery settings; regions that have some: {_join(known)}"
        )
    used = [region for region in regions if known[region].on]
    if used:
        raise InputError(
            f"delivery of execution records is on in {_join(used)}; switch it off there first:"
            " `heliograph assistant delivery off REGION`"
        )
    _check_unused(bus, [target.id for region in regions for target in known[region].targets])
    return _change(bus, dict.fromkeys(regions, b""))


def _change_fields(
    region: str, known: DeliverySettings | None, changes: Mapping[str, Mapping[str, str] | None]
) -> DeliverySettings:
    """Returns the settings with the changed fields of each store, switched on. Raises InputError with every problem."""
    fields: dict[str, Any] = known.model_dump() if known else {"region": region}
    for store, given in changes.items():
        if given is None:
            fields[store] = None
        elif given:
            fields[store] = {**(fields.get(store) or {}), **given}
    try:
        settings = DeliverySettings.model_validate({**fields, "on": True})
    except ValidationError as error:
        raise InputError("\n".join(problems(error, DeliverySettings))) from None
    found = [line for target in settings.targets for line in check_settings(target)]
    if found:
        raise InputError("\n".join(found))
    return settings


def _check_unused(bus: Bus, targets: Sequence[str]) -> None:
    """Raises InputError if records are still being delivered to one of the targets; it gives their number by target."""
    if not targets:
        return
    states = list_deliveries(History(bus), DeliveryFilter(targets=frozenset(targets)))
    waiting = Counter(found.target for found in states if found.state not in _ENDED)
    if waiting:
        counted = _join(f"{target} ({count})" for target, count in sorted(waiting.items()))
        raise InputError(
            f"records are still on their way to {counted}; wait until they are delivered, or let them become dead"
            " letters: `heliograph targets suspend TARGET --why REASON`"
        )


def _change(bus: Bus, values: Mapping[str, bytes]) -> int:
    """Appends the records of regions, then the record that puts them into force.

    A crash between the two leaves a change that is not in force, and the command has failed.
    """
    changed = bus.append([settings_record(region, value) for region, value in values.items()])
    (named,) = bus.append([in_force_record(changed[-1].offset + 1)])
    return named.offset + 1


def _join(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

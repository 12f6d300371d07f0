"""Subscriptions from a file into force: read, check, apply, and wait until the routers use them."""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from heliograph.bus.base import Bus
from router.configuration import Configuration
from router.routing import ROUTERS, read_routed
from schemas import catalogue
from schemas.errors import InvalidSubscription, NotFound
from schemas.problems import problems, suggestion
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord
from schemas.subscription import Subscription, Target
from schemas.topics import SUBSCRIPTIONS
from sinks.base import SinkKind

_LATER = ("pattern",)
_LATER_RESOURCES = ("groups",)
_WAIT = 0.01


class Applied(NamedTuple):
    """What `apply` did. `version`: position in the topic `subscriptions` after it; then names, in the order given.
    `disturbed`: ordered targets of which deliveries that are under way may go out of order."""

    version: int
    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    disturbed: tuple[str, ...]


class Confirmed(NamedTuple):
    """`members`: the live routers; `confirmed`: those of them that use the version waited for, or a later one."""

    members: frozenset[str]
    confirmed: frozenset[str]


def read_file(text: str, kinds: Mapping[str, SinkKind] | None = None) -> list[Subscription]:
    """The subscriptions of a TOML file of `[[subscription]]` tables; with `kinds`, their targets are checked too.

    Raises InvalidSubscription with every problem, each a line that names the subscription and the key.
    """
    tables, found = _tables(text)
    read: list[Subscription] = []
    for number, table in enumerate(tables, 1):
        label = _label(table, number)
        later = _not_supported(table)
        found += [f"{label}: {key}: not supported yet by this version" for key in later]
        try:
            read.append(Subscription.model_validate(_without(table, later)))
        except ValidationError as error:
            found += [f"{label}: {line}" for line in problems(error, Subscription)]
    found += _repeated_names(tables) + conflicts(read)
    found += _targets_problems(read, kinds) if kinds is not None else ()
    if found:
        raise InvalidSubscription(found)
    return read


def check_targets(subscriptions: Iterable[Subscription], kinds: Mapping[str, SinkKind]) -> None:
    """Check each target's kind, and its settings by the kind's own model; InvalidSubscription lists all problems."""
    found = _targets_problems(subscriptions, kinds)
    if found:
        raise InvalidSubscription(found)


def doubts(subscriptions: Iterable[Subscription]) -> list[str]:
    """Lines about what is allowed but looks like a mistake: names of ECS events that the catalogue does not have."""
    return [
        f"subscription {one.name!r}: names: {name!r} is not in the catalogue{catalogue.hint(name)}"
        for one in subscriptions
        if one.product is None or one.product.upper() == "ECS"
        for name in one.names
        if "*" not in name and name not in catalogue.CATALOGUE and name not in catalogue.ELSEWHERE
    ]


def conflicts(subscriptions: Iterable[Subscription]) -> list[str]:
    """A line for each target id that is defined in two ways: an id is one destination of the whole deployment."""
    first: dict[str, tuple[str, Target]] = {}
    found: list[str] = []
    for one in subscriptions:
        for target in one.target:
            owner, definition = first.setdefault(target.id, (one.name, target))
            if definition != target:
                found.append(
                    f"subscription {one.name!r}: target {target.id!r}: differs from the target of that id in"
                    f" subscription {owner!r}; give it another id, or both the same settings"
                )
    return found


def apply(bus: Bus, subscriptions: Sequence[Subscription], kinds: Mapping[str, SinkKind]) -> Applied:
    """Put subscriptions into force, all or none: new ones, and those that differ from what is in force.

    Others stay as they are. What a subscription says is all there is to it: one without `enabled` is enabled.
    Raises InvalidSubscription (then nothing changed), BusError.
    """
    check_targets(subscriptions, kinds)
    configuration = _current(bus)
    current = configuration.subscriptions
    wanted = {one.name: _as_stored(one) for one in subscriptions}
    others = (one for name, one in current.items() if name not in wanted)
    found = conflicts([*others, *wanted.values()])
    if found:
        raise InvalidSubscription(found)
    created = tuple(name for name in wanted if name not in current)
    changed = tuple(name for name, one in wanted.items() if name in current and one != current[name])
    unchanged = tuple(name for name, one in wanted.items() if one == current.get(name))
    version = _append(bus, [_record(wanted[name]) for name in (*created, *changed)], configuration.version)
    disturbed = _disturbed(configuration.read_targets(), wanted.values())
    return Applied(version, created, changed, unchanged, disturbed)


def _disturbed(current: Mapping[str, Target], wanted: Iterable[Subscription]) -> tuple[str, ...]:
    """Ordered targets whose deliveries were made for other lanes, or without order."""
    targets = {target.id: target for owner in wanted for target in owner.target if target.ordered}
    return tuple(
        name
        for name, target in targets.items()
        if name in current and (current[name].lanes, current[name].ordered) != (target.lanes, target.ordered)
    )


def delete(bus: Bus, name: str) -> int:
    """Remove a subscription; returns the version without it. Raises NotFound, BusError."""
    configuration = _current(bus)
    _named(configuration, name)
    return _append(bus, [_record_of(name, b"")], configuration.version)


def set_enabled(bus: Bus, name: str, enabled: bool) -> int:
    """Enable or disable a subscription; returns the version in which it is so. Raises NotFound, BusError."""
    configuration = _current(bus)
    subscription = _named(configuration, name)
    if subscription.enabled == enabled:
        return configuration.version
    changed = subscription.model_copy(update={"enabled": enabled})
    return _append(bus, [_record(changed)], configuration.version)


def await_routers(bus: Bus, version: int, timeout: float) -> Confirmed:
    """Wait up to `timeout` seconds until every live router has reported that it uses `version` or a later one."""
    deadline = time.monotonic() + timeout
    using: dict[str, int] = {}
    offset = 0
    while True:
        for following, routed in read_routed(bus, offset):
            offset, using[routed.member] = following, routed.version
        members = bus.members(ROUTERS)
        confirmed = frozenset(one for one in members if using.get(one, -1) >= version)
        if confirmed == members or time.monotonic() >= deadline:
            return Confirmed(members, confirmed)
        time.sleep(_WAIT)


def _tables(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The `[[subscription]]` tables of a file, and what is wrong around them."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSubscription([f"not TOML: {error}"]) from None
    found = [
        f"{key}: is not a known key; a file holds [[subscription]] tables"
        for key in document
        if key != "subscription"
    ]
    tables = document.get("subscription")
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in cast(list[object], tables)):
        raise InvalidSubscription([*found, "subscription: a file holds at least one [[subscription]] table"])
    return cast(list[dict[str, Any]], tables), found


def _label(table: Mapping[str, Any], number: int) -> str:
    name = table.get("name")
    return f"subscription {name!r}" if isinstance(name, str) and name else f"subscription {number}"


def _not_supported(table: Mapping[str, Any]) -> list[str]:
    """Keys of the file format that this version does not have, as paths."""
    resources = table.get("resources")
    inner = cast(dict[str, Any], resources) if isinstance(resources, dict) else {}
    return [key for key in _LATER if key in table] + [
        f"resources.{key}" for key in _LATER_RESOURCES if key in inner
    ]


def _without(table: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The table without what `_not_supported` named, so that nothing is reported twice."""
    kept = {key: value for key, value in table.items() if key not in paths}
    if any(path.startswith("resources.") for path in paths):
        kept["resources"] = {
            key: value for key, value in table["resources"].items() if f"resources.{key}" not in paths
        }
    return kept


def _repeated_names(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    used = Counter(one["name"] for one in tables if isinstance(one.get("name"), str))
    return [
        f"subscription {name!r}: name: used {count} times in this file"
        for name, count in used.items()
        if count > 1
    ]


def _targets_problems(subscriptions: Iterable[Subscription], kinds: Mapping[str, SinkKind]) -> list[str]:
    return [
        f"subscription {owner.name!r}: target {target.id!r}: {line}"
        for owner in subscriptions
        for target in owner.target
        for line in _target_problems(target, kinds)
    ]


def _target_problems(target: Target, kinds: Mapping[str, SinkKind]) -> list[str]:
    kind = kinds.get(target.kind)
    if kind is None:
        return [f"kind: {target.kind!r} is not one of {', '.join(sorted(kinds))}"]
    return kind.problems(target.settings, Target.model_fields)


def _current(bus: Bus) -> Configuration:
    configuration = Configuration(bus)
    configuration.refresh()
    return configuration


def _named(configuration: Configuration, name: str) -> Subscription:
    known = configuration.subscriptions
    if name not in known:
        raise NotFound(f"subscription {name!r}: there is none{suggestion(name, tuple(known))}")
    return known[name]


def _as_stored(subscription: Subscription) -> Subscription:
    """As it comes back from the log, so that what JSON writes differently does not count as a change."""
    return Subscription.model_validate_json(subscription.model_dump_json())


def _record(subscription: Subscription) -> NewRecord:
    return _record_of(subscription.name, subscription.model_dump_json().encode())


def _record_of(name: str, value: bytes) -> NewRecord:
    return NewRecord(SUBSCRIPTIONS, value, name.encode(), ((FORMAT, FORMAT_VERSION),))


def _append(bus: Bus, records: Sequence[NewRecord], version: int) -> int:
    """Append all at once; returns the version that they make."""
    return bus.append(records)[-1].offset + 1 if records else version

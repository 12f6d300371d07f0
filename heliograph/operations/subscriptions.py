"""Subscriptions: applies, changes, lists and explains them, and waits until the routers use a version."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from pydantic import ValidationError

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.operations.subscription_file import check_targets, find_conflicts
from router.configuration import Configuration
from router.match.explain import Clause, explain
from router.routing import ROUTERS, read_routed
from schemas.delivery_settings import read_in_force
from schemas.errors import InvalidSubscription, NotFound
from schemas.notification import check
from schemas.problems import suggestion
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.subscription import Subscription, Target
from schemas.topics import SUBSCRIPTIONS
from sinks.base import SinkKind

_WAIT = 0.01
"""Seconds between two reads while `await_routers` waits."""


class Changes(NamedTuple):
    """The names that `apply` creates, changes and leaves unchanged, each in the order given.

    `version`: version of the configuration: the next offset of the topic `subscriptions`; after `apply`, with the
    changes. `disturbed`: ordered targets whose deliveries under way may arrive out of order.
    """

    version: int
    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    disturbed: tuple[str, ...]


class Confirmed(NamedTuple):
    """The result of waiting for a version of the configuration.

    `members`: the live routers; `confirmed`: the live routers that use this version or a later one.
    """

    members: frozenset[str]
    confirmed: frozenset[str]

    @property
    def missing(self) -> frozenset[str]:
        """The live routers that still use an earlier version."""
        return self.members - self.confirmed


class MatchAnswer(NamedTuple):
    """A subscription's answer to an event.

    `failed`: the clauses that do not hold; empty if the subscription matches.
    """

    subscription: str
    failed: Sequence[Clause]


class ChangeKind(enum.StrEnum):
    """The kind of a change in the history of the topic `subscriptions`."""

    CREATED = "created"
    CHANGED = "changed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"
    SETTINGS = "settings"  # delivery settings of execution records came into force
    UNREADABLE = "unreadable"  # a record that routers ignore


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the configuration.

    `version`: first version of the configuration with the change. `name`: name of the subscription, empty for delivery
    settings. `at`: time of the append, in milliseconds since the epoch. `subscription`: the subscription after the
    change; None if it was deleted, and for delivery settings and unreadable records.
    """

    version: int
    kind: ChangeKind
    name: str
    at: int
    subscription: Subscription | None = None


def plan(bus: Bus, subscriptions: Sequence[Subscription], kinds: Mapping[str, SinkKind]) -> Changes:
    """Returns what `apply` would change, with the present version; appends nothing. Raises as `apply`."""
    check_targets(subscriptions, kinds)
    configuration = _read_current(bus)
    current = configuration.subscriptions
    given = {one.name: _as_stored(one) for one in subscriptions}
    others = (one for name, one in current.items() if name not in given)
    found = find_conflicts([*others, *given.values()])
    if found:
        raise InvalidSubscription(found)
    return Changes(
        version=configuration.version,
        created=tuple(name for name in given if name not in current),
        changed=tuple(name for name, one in given.items() if name in current and one != current[name]),
        unchanged=tuple(name for name, one in given.items() if one == current.get(name)),
        disturbed=_find_disturbed(configuration.read_targets(), given.values()),
    )


def apply(bus: Bus, subscriptions: Sequence[Subscription], kinds: Mapping[str, SinkKind]) -> Changes:
    """Puts subscriptions into force, all or none: appends the new and the changed ones.

    Other subscriptions stay in force. A subscription replaces the whole earlier one of its name: without the key
    `enabled` it is enabled. Raises InvalidSubscription (nothing is changed then), BusError.
    """
    changes = plan(bus, subscriptions, kinds)
    given = {one.name: _as_stored(one) for one in subscriptions}
    records = [_build_record(given[name]) for name in (*changes.created, *changes.changed)]
    return changes._replace(version=_append(bus, records, changes.version))


def delete(bus: Bus, name: str) -> int:
    """Removes a subscription; returns the version without it. Raises NotFound, BusError."""
    configuration = _read_current(bus)
    _require(configuration, name)
    return _append(bus, [_build_keyed(name, b"")], configuration.version)


def set_enabled(bus: Bus, name: str, enabled: bool) -> int:
    """Enables or disables a subscription; returns the version of the configuration that has the change.

    Raises NotFound, BusError.
    """
    configuration = _read_current(bus)
    subscription = _require(configuration, name)
    if subscription.enabled == enabled:
        return configuration.version
    changed = subscription.model_copy(update={"enabled": enabled})
    return _append(bus, [_build_record(changed)], configuration.version)


def list_subscriptions(bus: Bus) -> list[Subscription]:
    """Lists the subscriptions in the order in which they were last applied, disabled ones too. Raises BusError."""
    return list(_read_current(bus).subscriptions.values())


def find_subscription(bus: Bus, name: str) -> Subscription:
    """Finds a subscription by its name. Raises NotFound, BusError."""
    return _require(_read_current(bus), name)


def explain_match(bus: Bus, value: bytes) -> list[MatchAnswer]:
    """Evaluates every subscription in force for a notification. Raises InvalidNotification, BusError."""
    routing = check(value.strip())
    return [
        MatchAnswer(one.name, [clause for clause in explain(one, routing) if not clause.held])
        for one in list_subscriptions(bus)
    ]


def list_changes(bus: Bus) -> Iterator[Change]:
    """Lists the changes of subscriptions and delivery settings, the oldest first. Raises BusError."""
    current: dict[str, Subscription] = {}
    for record in read_topic(bus, SUBSCRIPTIONS):
        change = _read_change(record, current)
        if change.subscription is not None:
            current[change.name] = change.subscription
        elif change.kind is ChangeKind.DELETED:
            current.pop(change.name, None)
        yield change


def await_routers(bus: Bus, version: int, timeout: float) -> Confirmed:
    """Waits until every live router has reported that it uses `version` or a later one, at most `timeout` seconds."""
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


def _find_disturbed(current: Mapping[str, Target], given: Iterable[Subscription]) -> tuple[str, ...]:
    """Finds ordered targets whose deliveries under way were built for other lanes, or without order."""
    targets = {target.id: target for owner in given for target in owner.target if target.ordered}
    return tuple(
        name
        for name, target in targets.items()
        if name in current and (current[name].lanes, current[name].ordered) != (target.lanes, target.ordered)
    )


def _read_change(record: Record, current: Mapping[str, Subscription]) -> Change:
    version, name = record.offset + 1, (record.key or b"").decode(errors="replace")
    if read_in_force(record) is not None:
        return Change(version=version, kind=ChangeKind.SETTINGS, name="", at=record.timestamp)
    if not record.value:
        return Change(version=version, kind=ChangeKind.DELETED, name=name, at=record.timestamp)
    try:
        subscription = Subscription.model_validate_json(record.value)
    except ValidationError:
        return Change(version=version, kind=ChangeKind.UNREADABLE, name=name, at=record.timestamp)
    return Change(
        version=version,
        kind=_find_kind(current.get(subscription.name), subscription),
        name=subscription.name,
        at=record.timestamp,
        subscription=subscription,
    )


def _find_kind(before: Subscription | None, after: Subscription) -> ChangeKind:
    if before is None:
        return ChangeKind.CREATED
    if before.enabled != after.enabled and before.model_copy(update={"enabled": after.enabled}) == after:
        return ChangeKind.ENABLED if after.enabled else ChangeKind.DISABLED
    return ChangeKind.CHANGED


def _read_current(bus: Bus) -> Configuration:
    configuration = Configuration(bus)
    configuration.refresh()
    return configuration


def _require(configuration: Configuration, name: str) -> Subscription:
    known = configuration.subscriptions
    if name not in known:
        remedy = suggestion(name, tuple(known)) or "; `heliograph subscriptions list` lists the names"
        raise NotFound(f"no subscription named {name!r}{remedy}")
    return known[name]


def _as_stored(subscription: Subscription) -> Subscription:
    """Returns the subscription as it reads after storage in JSON, so that a comparison with the stored one finds real
    changes."""
    return Subscription.model_validate_json(subscription.model_dump_json())


def _build_record(subscription: Subscription) -> NewRecord:
    return _build_keyed(subscription.name, subscription.model_dump_json().encode())


def _build_keyed(name: str, value: bytes) -> NewRecord:
    return NewRecord(SUBSCRIPTIONS, value, name.encode(), ((FORMAT, FORMAT_VERSION),))


def _append(bus: Bus, records: Sequence[NewRecord], version: int) -> int:
    """Appends all records at once; returns the version of the configuration with them."""
    return bus.append(records)[-1].offset + 1 if records else version

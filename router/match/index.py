"""An index of subscriptions, so that the cost of matching an event does not grow with their number.

A subscription without ids and ARNs depends on the event's signature (product, level, name, region) alone, so its answer
is remembered by signature. A subscription with ids or ARNs is in a table by resource id, and is checked only for events
of that resource. Content patterns and groups will be one more step for the subscriptions that have passed these.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from router.match.explain import resource_id
from schemas.catalogue import event_type_of
from schemas.notification import Routing
from schemas.subscription import Subscription, Target

_REMEMBERED = 1_000_000
"""Largest number of matches and signatures in memory: producers choose the names, so these have no bound."""

_Signature = tuple[str, str, str, str]


class Match(NamedTuple):
    """A subscription that matches the event, and its targets. `mute_for`: milliseconds; 0 mutes nothing."""

    subscription: str
    targets: tuple[Target, ...]
    mute_for: int = 0


class Table:
    """Subscriptions compiled for matching. Never changes, apart from the remembered answers. Belongs to one thread."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._by_resource: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_name: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_region: defaultdict[str, list[Entry]] = defaultdict(list)
        self._anywhere: list[Entry] = []
        self._remembered: dict[_Signature, tuple[Match, ...]] = {}
        self._size = 0
        self.mutes = False
        """True if any subscription has a `mute_for`."""
        for subscription in subscriptions:
            if subscription.enabled:
                self._add(subscription)
                self.mutes |= subscription.mute_for is not None

    def match(self, routing: Routing) -> Sequence[Match]:
        """Returns every subscription that matches the event, once, in no particular order."""
        signature = (routing.product, routing.level, routing.name, routing.region_id)
        found = self._remembered.get(signature)
        if found is None:
            found = self._remember(signature)
        if not self._by_resource:
            return found
        arn = routing.resource_id
        entries = self._by_resource.get(resource_id(arn))
        if entries is None:
            return found
        return (*found, *(entry.match for entry in entries if entry.wants(signature, arn)))

    def _add(self, subscription: Subscription) -> None:
        """Indexes a subscription by the most selective of its clauses."""
        entry = Entry(subscription)
        resources, names = subscription.resources, subscription.names
        if resources.ids or resources.arns:
            for resource in {*resources.ids, *map(resource_id, resources.arns)}:
                self._by_resource[resource].append(entry)
        elif names and not any("*" in name for name in names):
            for name in set(names):
                self._by_name[name].append(entry)
        elif resources.regions:
            for region in set(resources.regions):
                self._by_region[region].append(entry)
        else:
            self._anywhere.append(entry)

    def _remember(self, signature: _Signature) -> tuple[Match, ...]:
        _, _, name, region = signature
        candidates = (*self._by_name.get(name, ()), *self._by_region.get(region, ()), *self._anywhere)
        found = tuple(entry.match for entry in candidates if entry.wants(signature))
        self._size += 1 + len(found)
        if self._size > _REMEMBERED:
            self._remembered.clear()
            self._size = 1 + len(found)
        self._remembered[signature] = found
        return found


class Entry:
    """One subscription with its clauses as sets; an empty set, or None, matches everything."""

    __slots__ = (
        "_arns",
        "_event_types",
        "_ids",
        "_levels",
        "_names",
        "_patterns",
        "_product",
        "_regions",
        "match",
    )

    def __init__(self, subscription: Subscription) -> None:
        mute_for = round((subscription.mute_for or 0) * 1000)
        self.match = Match(subscription.name, subscription.target, mute_for)
        self._product = subscription.product.upper() if subscription.product else None
        self._event_types = () if "*" in subscription.event_types else subscription.event_types
        self._levels = subscription.levels
        self._names = frozenset(name for name in subscription.names if "*" not in name)
        self._patterns = _compiled([name for name in subscription.names if "*" in name])
        self._regions = frozenset(subscription.resources.regions)
        self._ids = frozenset(subscription.resources.ids)
        self._arns = frozenset(subscription.resources.arns)

    def wants(self, signature: _Signature, arn: str = "") -> bool:
        """Returns True if every clause holds. `arn`: needed only by a subscription with ids or ARNs."""
        product, level, name, region = signature
        return (
            (self._product is None or self._product == product.upper())
            and (not self._event_types or event_type_of(name) in self._event_types)
            and (not self._levels or level in self._levels)
            and self._wants_name(name)
            and (not self._regions or region in self._regions)
            and (not (self._ids or self._arns) or arn in self._arns or resource_id(arn) in self._ids)
        )

    def _wants_name(self, name: str) -> bool:
        if self._patterns is None:
            return not self._names or name in self._names
        return name in self._names or self._patterns.fullmatch(name) is not None


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """Returns one expression for all patterns. It takes time linear in the name: a `*` never backtracks."""
    return re.compile("|".join(_expression(one) for one in patterns), re.DOTALL) if patterns else None


def _expression(pattern: str) -> str:
    first, *inner, last = pattern.split("*")
    steps = "".join(f"(?>.*?{re.escape(part)})" for part in inner)
    return f"{re.escape(first)}{steps}.*{re.escape(last)}"

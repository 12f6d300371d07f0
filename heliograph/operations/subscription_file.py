"""Subscription files, and the checks that every subscription passes before it is applied."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from schemas import catalogue
from schemas.errors import InvalidSubscription
from schemas.problems import problems
from schemas.subscription import Subscription, Target
from sinks.base import SinkKind

_LATER = ("pattern",)
_LATER_RESOURCES = ("groups",)


def read_file(text: str, kinds: Mapping[str, SinkKind] | None = None) -> list[Subscription]:
    """Reads a TOML file of `[[subscription]]` tables; with `kinds`, checks the targets too.

    Raises InvalidSubscription with every problem, each in a line that names the subscription and the key.
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
    found += _repeated_names(tables) + find_conflicts(read)
    found += _targets_problems(read, kinds) if kinds is not None else ()
    if found:
        raise InvalidSubscription(found)
    return read


def check_targets(subscriptions: Iterable[Subscription], kinds: Mapping[str, SinkKind]) -> None:
    """Checks each target's kind, and its settings by the kind's model. Raises InvalidSubscription with all problems."""
    found = _targets_problems(subscriptions, kinds)
    if found:
        raise InvalidSubscription(found)


def find_warnings(subscriptions: Iterable[Subscription]) -> list[str]:
    """Returns a warning for each name of an ECS event that the catalogue lacks: it is allowed, but may be a mistake."""
    return [
        f"subscription {one.name!r}: names: {name!r} is not in the catalogue{catalogue.hint(name)}"
        for one in subscriptions
        if one.product is None or one.product.upper() == "ECS"
        for name in one.names
        if "*" not in name and name not in catalogue.CATALOGUE and name not in catalogue.ELSEWHERE
    ]


def find_conflicts(subscriptions: Iterable[Subscription]) -> list[str]:
    """Returns a line for each target id with two definitions: an id is one destination in the whole deployment."""
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


def _tables(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the `[[subscription]]` tables of a file, and the problems outside of them."""
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
    """Returns the keys of a table that are reserved for a later version, as paths."""
    resources = table.get("resources")
    inner = cast(dict[str, Any], resources) if isinstance(resources, dict) else {}
    return [key for key in _LATER if key in table] + [
        f"resources.{key}" for key in _LATER_RESOURCES if key in inner
    ]


def _without(table: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Returns the table without the keys that `_not_supported` named, so that no key is reported twice."""
    kept = {key: value for key, value in table.items() if key not in paths}
    if any(path.startswith("resources.") for path in paths):
        kept["resources"] = {
            key: value for key, value in table["resources"].items() if f"resources.{key}" not in paths
        }
    return kept


def _repeated_names(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    used = Counter(one["name"] for one in tables if isinstance(one.get("name"), str))
    return [
        f"subscription {name!r}: name: is used {count} times in this file; give each subscription its own name"
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

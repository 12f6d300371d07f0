"""The notification names that ECS sends: 90 from its user manual, and those that other sources add.

The data is in two files beside this one. `catalogue.tsv` holds the 90; where sources disagree about an event type or a
level, it holds the chosen value and the source of it. `catalogue_elsewhere.tsv` holds the names that only the lists of
CloudMonitor and EventBridge have.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import msgspec

from schemas.content import fields_of
from schemas.errors import NotFound
from schemas.subscription import Level

Category = Literal["scheduled-maintenance", "unexpected-maintenance", "billing", "state-change"]
EventType = Literal["StatusNotification", "Exception", "Maintenance", ""]
"""The event type of a name, by which subscriptions filter. It is empty for billing events, as in CloudMonitor's
metadata, so only the filter `*`, or a subscription without this filter, matches them."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One notification name with its properties.

    `code`: the part of the name between resource type and status. `status`: empty for events without states. `level`:
    the usual level. `level_on_failure`: the level if the content's result is a failure; empty if it is the same.
    `other_levels`: further levels that some source gives. `family`: the form of the content, a key of
    `schemas.content.FAMILIES`.
    """

    name: str
    resource_type: str
    code: str
    status: str
    category: Category
    event_type: EventType
    event_type_source: str
    level: Level
    other_levels: tuple[Level, ...]
    level_on_failure: Level | Literal[""]
    level_source: str
    family: str

    @property
    def levels(self) -> tuple[str, ...]:
        """All levels that a notification of this name may have."""
        return tuple(level for level in (self.level, self.level_on_failure, *self.other_levels) if level)

    def describe(self) -> dict[str, object]:
        """Returns the entry's fields for display, with all its levels and the names of its content fields."""
        return {
            "name": self.name,
            "resource_type": self.resource_type,
            "code": self.code,
            "status": self.status,
            "category": self.category,
            "event_type": self.event_type,
            "event_type_source": self.event_type_source,
            "level": self.level,
            "levels": list(self.levels),
            "level_source": self.level_source,
            "content": list(fields_of(self.family)),
        }


class Elsewhere(msgspec.Struct, frozen=True):
    """A name that the user manual does not list. `event_type` and `level` are empty if the name's source gives none."""

    name: str
    event_type: EventType
    level: Level | Literal[""]
    source: str


def _rows(filename: str) -> list[dict[str, str]]:
    text = (files("schemas") / filename).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def _entry(row: dict[str, str]) -> Entry:
    return msgspec.convert({**row, "other_levels": row["other_levels"].split()}, Entry)


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {row["name"]: _entry(row) for row in _rows("catalogue.tsv")}
)
ELSEWHERE: Mapping[str, Elsewhere] = MappingProxyType(
    {row["name"]: msgspec.convert(row, Elsewhere) for row in _rows("catalogue_elsewhere.tsv")}
)

_EVENT_TYPE_OF_CAUSE: Mapping[str, EventType] = MappingProxyType(
    {
        "SystemMaintenance": "Maintenance",
        "SystemFailure": "Exception",
        "InstanceFailure": "Exception",
        "Security": "Exception",
        "Stalled": "Exception",
        "Degraded": "Exception",
        "SeverelyDegraded": "Exception",
        "ErrorDetected": "Exception",
        "InstanceExpiration": "",
        "AccountUnbalanced": "",
    }
)


def lookup(name: str) -> Entry:
    """Returns the entry of `name`. Raises NotFound, with suggestions, if the catalogue lacks it."""
    entry = CATALOGUE.get(name)
    if entry is None:
        raise NotFound(f"name {name!r} is not in the catalogue{hint(name)}")
    return entry


def complete(prefix: str) -> Sequence[str]:
    """Returns the names that begin with `prefix`, ignoring case, in the order of the catalogue."""
    wanted = prefix.lower()
    return [name for name in CATALOGUE if name.lower().startswith(wanted)]


def suggestions(name: str) -> Sequence[str]:
    """Returns up to three similar names of the catalogue, the most similar first."""
    by_lower = {known.lower(): known for known in CATALOGUE}
    return [by_lower[close] for close in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.8)]


def hint(name: str) -> str:
    """Returns `; did you mean …?` with the similar names, or an empty text if there are none."""
    close = suggestions(name)
    return f"; did you mean {' or '.join(close)}?" if close else ""


@lru_cache(maxsize=4096)
def event_type_of(name: str) -> EventType:
    """Returns the event type of any name.

    Tries in order: the catalogue, the event's cause, the names of other sources. The default is StatusNotification.
    """
    entry = CATALOGUE.get(name)
    if entry is not None:
        return entry.event_type
    code = name.partition(":")[2].partition(":")[0] or name
    by_cause = _EVENT_TYPE_OF_CAUSE.get(code.partition(".")[0])
    if by_cause is not None:
        return by_cause
    elsewhere = ELSEWHERE.get(name)
    return (elsewhere.event_type if elsewhere else "") or "StatusNotification"

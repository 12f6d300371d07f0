"""The notification names that ECS sends: 90 of its user manual, and those that other sources add.

The data lies beside this file. `catalogue.tsv` holds the 90, with what each source says about event type and level
decided and the source named; `catalogue_elsewhere.tsv` names from CloudMonitor's and EventBridge's own lists.
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
"""What a subscription filters by. Empty for billing events, as in CloudMonitor's metadata: only `*` matches them."""


class Entry(msgspec.Struct, frozen=True):
    """What is known of one name.

    `code` is the event without resource type and status; `status` is empty for events without states. `level` is the
    one to send, `other_levels` are those that some source gives as well, `level_on_failure` (or empty) is sent when
    the content's result is a failure. `family` is the form of its content, a key of `schemas.content.FAMILIES`.
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
        """Every level that this event may carry."""
        return tuple(level for level in (self.level, self.level_on_failure, *self.other_levels) if level)

    def describe(self) -> dict[str, object]:
        """Everything about the name for a person, field by field."""
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
    """A name that the manual lacks. `event_type` and `level` are empty where the source does not say them."""

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
    """The entry of `name`; NotFound suggests what may have been meant."""
    entry = CATALOGUE.get(name)
    if entry is None:
        raise NotFound(f"name {name!r} is not in the catalogue{hint(name)}")
    return entry


def complete(prefix: str) -> Sequence[str]:
    """The names that begin with `prefix`, in any case, in the catalogue's order."""
    wanted = prefix.lower()
    return [name for name in CATALOGUE if name.lower().startswith(wanted)]


def suggestions(name: str) -> Sequence[str]:
    """Up to three names of the catalogue that are close to `name`, the closest first."""
    by_lower = {known.lower(): known for known in CATALOGUE}
    return [by_lower[close] for close in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.8)]


def hint(name: str) -> str:
    """`; did you mean …?` for a name that is close to known ones, otherwise empty."""
    close = suggestions(name)
    return f"; did you mean {' or '.join(close)}?" if close else ""


@lru_cache(maxsize=4096)
def event_type_of(name: str) -> EventType:
    """The subscription event type of any name: what a source says, or else by the event's cause."""
    entry = CATALOGUE.get(name)
    if entry is not None:
        return entry.event_type
    code = name.partition(":")[2].partition(":")[0] or name
    by_cause = _EVENT_TYPE_OF_CAUSE.get(code.partition(".")[0])
    if by_cause is not None:
        return by_cause
    elsewhere = ELSEWHERE.get(name)
    return (elsewhere.event_type if elsewhere else "") or "StatusNotification"

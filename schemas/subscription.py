"""Subscriptions: a named filter with targets. The file form (TOML) and the stored form (JSON) have the same fields.

What CloudMonitor calls an event alert rule (rule API 2019-01-01).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.delivery import ReasonCode

__all__ = ["Filter", "Level", "ReasonCode", "Resources", "RetryPolicy", "Subscription", "Target"]

EventType = Literal["StatusNotification", "Exception", "Maintenance", "*"]
Level = Literal["CRITICAL", "WARN", "INFO"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(_Strict):
    """Resource range. Every list that is not empty must hold: of the lists together any match of `ids` or `arns` is
    enough, and `regions` narrows it."""

    regions: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    arns: tuple[str, ...] = ()


class RetryPolicy(_Strict):
    """Exponential with full jitter. `first` and `cap`: seconds; `tries` counts the first attempt."""

    tries: int = Field(default=16, ge=1, le=1000)
    first: float = Field(default=1.0, gt=0, le=86_400)
    factor: float = Field(default=2.0, ge=1, le=100)
    cap: float = Field(default=3600.0, gt=0, le=604_800)
    jitter: bool = True


class Target(_Strict):
    """One destination. What is not a field here is a setting of the sink kind, checked by its own model.

    `concurrency`: sends under way at once; `batch`: deliveries handed to the sink in one call.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: Name
    kind: str
    retry: RetryPolicy = RetryPolicy()
    concurrency: int = Field(default=8, ge=1, le=1000)
    batch: int | None = Field(default=None, ge=1, le=5000)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the sink kind."""
        return dict(self.model_extra or {})


class Filter(_Strict):
    """Which events a subscription wants. An empty list wants all; every clause must hold."""

    product: str | None = None
    event_types: tuple[EventType, ...] = ()
    levels: tuple[Level, ...] = ()
    names: tuple[str, ...] = ()
    resources: Resources = Resources()

    @field_validator("names")
    @classmethod
    def _names_are_patterns(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_.:*-]+", name):
                raise ValueError(f"{name!r} is not a name or a pattern with `*`")
        return names


class Subscription(Filter):
    """A named filter with one to five targets or more; `enabled = false` keeps it and matches nothing."""

    name: Name
    enabled: bool = True
    description: str = ""
    target: tuple[Target, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _targets_differ(self) -> Subscription:
        ids = [target.id for target in self.target]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"target ids must differ: {', '.join(twice)}")
        return self

"""Subscriptions: named filters with targets. The form in files (TOML) and the stored form (JSON) have the same fields.

CloudMonitor calls a subscription an event alert rule (rule API 2019-01-01).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from schemas import arn
from schemas.delivery import ReasonCode
from schemas.policy import BreakerPolicy, Duration, Policy, RetryPolicy

__all__ = [
    "LONGEST_MUTE",
    "BreakerPolicy",
    "Filter",
    "Level",
    "ReasonCode",
    "Resources",
    "RetryPolicy",
    "Subscription",
    "Target",
]

EventType = Literal["StatusNotification", "Exception", "Maintenance", "*"]
Level = Literal["CRITICAL", "WARN", "INFO"]
LONGEST_MUTE = 86_400.0
"""Limit of `mute_for` in seconds. It limits how much of `mutes` a router reads when it takes over a partition."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EVENT_NAME = re.compile(r"[^\s\x00-\x1f\x7f?\[\]]+")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f:]+")
_ARN = re.compile(arn.PATTERN)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name; write 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
        )
    return name


def _exact(values: tuple[str, ...], form: re.Pattern[str], example: str) -> tuple[str, ...]:
    """Refuses patterns, and values that do not match `form`. Published ids are masked with `*`, so a value counts as a
    pattern only if a whole part of it is `*`."""
    for value in values:
        if not form.fullmatch(value) or "*" in re.split("[:/]", value):
            raise ValueError(
                f"{value!r} must be one whole value, as in {example}; leave the list empty for all"
            )
    return values


Name = Annotated[str, AfterValidator(_checked_name)]


class Resources(Policy):
    """Resources of a filter. An empty list does not restrict.

    `ids` hold the part of an ARN after its `/` (`i-bp1ecr`), `arns` whole ARNs; an event matches if either list
    contains it. `regions` are compared with the event's regionId and must match as well. All are compared exactly, a
    `*` included.
    """

    regions: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    arns: tuple[str, ...] = ()

    @field_validator("regions")
    @classmethod
    def _regions_are_exact(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        return _exact(regions, _WORD, "cn-hangzhou")

    @field_validator("ids")
    @classmethod
    def _ids_are_exact(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        for one in ids:
            if one.startswith("acs:"):
                raise ValueError(
                    f"{one!r} is an ARN; put it into `arns`, or only the part after its '/' into `ids`"
                )
        return _exact(ids, _WORD, "i-bp1ecr")

    @field_validator("arns")
    @classmethod
    def _arns_are_exact(cls, arns: tuple[str, ...]) -> tuple[str, ...]:
        return _exact(arns, _ARN, "acs:ecs:cn-hangzhou:1234:instance/i-bp1ecr")


class Target(Policy):
    """One destination. All other keys are settings of the sink kind, which validates them with its own model.

    `concurrency`: concurrent calls of the sink; `batch`: deliveries in one call; `in_flight`: deliveries that lanes
    hold and that have not ended; `rate`: deliveries per second; `time_limit`: seconds for a call, instead of the
    kind's own limit. These limits are for the whole target, and each of its `lanes` has a share. `ordered`: True to
    make first attempts for a resource in the order of its events. `expires`: age in seconds, since the append, after
    which an event is no longer sent.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: Name
    kind: str
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy | Literal[False] = BreakerPolicy()
    lanes: int = Field(default=1, ge=1, le=64)
    concurrency: int = Field(default=8, ge=1, le=1000)
    batch: int | None = Field(default=None, ge=1, le=5000)
    in_flight: int | None = Field(default=None, ge=1, le=100_000)
    rate: float | None = Field(default=None, ge=0.001, le=1_000_000)
    time_limit: Duration | None = Field(default=None, gt=0, le=3600)
    ordered: bool = False
    expires: Duration | None = Field(default=None, gt=0)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the sink kind."""
        return dict(self.model_extra or {})

    @field_validator("breaker", mode="before")
    @classmethod
    def _table_or_false(cls, given: object) -> object:
        """Validates a table as a breaker here, since pydantic would report a mistake in it for both alternatives."""
        if isinstance(given, dict):
            return BreakerPolicy.model_validate(given)
        if given is False or isinstance(given, BreakerPolicy):
            return given
        raise ValueError("must be a table, or false")

    @model_validator(mode="after")
    def _lanes_have_shares(self) -> Target:
        if self.concurrency < self.lanes:
            raise ValueError("concurrency: each lane needs a share; make it at least `lanes`")
        if self.in_flight is not None and self.in_flight < self.lanes:
            raise ValueError("in_flight: each lane needs a share; make it at least `lanes`")
        return self


class Filter(Policy):
    """Conditions that an event must meet, all of them. An empty list accepts every event.

    `product` is compared without regard to case, everything else exactly. A `*` in a name stands for any characters.
    The event type follows from the name (`schemas.catalogue.event_type_of`); billing events have none, so only an
    empty list or `*` accepts them.
    """

    product: str | None = None
    event_types: tuple[EventType, ...] = ()
    levels: tuple[Level, ...] = ()
    names: tuple[str, ...] = ()
    resources: Resources = Resources()

    @field_validator("product")
    @classmethod
    def _product_is_exact(cls, product: str | None) -> str | None:
        if product is not None and not _PRODUCT.fullmatch(product):
            raise ValueError(f"{product!r} is not a product such as ECS; leave it out for all products")
        return product

    @field_validator("names")
    @classmethod
    def _names_are_patterns(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _EVENT_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a name such as Disk:Stalled:Executing, or a pattern with '*' for any characters"
                )
        return names


class Subscription(Filter):
    """A named filter with 1 to 100 targets. With `enabled = false` it is kept and matches no event.

    `mute_for`: seconds after a delivered event in which no other event of the same name, resource and level is
    delivered. CloudMonitor calls this the silence time.
    """

    name: Name
    enabled: bool = True
    description: str = ""
    mute_for: Duration | None = Field(default=None, gt=0, le=LONGEST_MUTE)
    target: tuple[Target, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _targets_differ(self) -> Subscription:
        ids = [target.id for target in self.target]
        twice = sorted({target for target in ids if ids.count(target) > 1})
        if twice:
            raise ValueError(
                f"several targets have the same id: {', '.join(twice)}; give each target its own id"
            )
        return self

"""Delivery policies of a target: retries and circuit breaker, as frozen data. `router.deliver` applies them.

Sources of the named schedules: Standard Webhooks 1.0 ("deliverability and reliability"), CloudMonitor's URL callback,
the retry policies `BACKOFF_RETRY` and `EXPONENTIAL_DECAY_RETRY` of EventBridge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.errors import InputError
from schemas.times import read_duration

SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "standard-webhooks": {
        "tries": 10,
        "delays": (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0),
        "jitter": "none",
    },
    "cloudmonitor": {"tries": 3, "first": 1.0, "factor": 2.0, "cap": 5.0},
    "backoff": {"tries": 3, "first": 20.0, "factor": 1.0, "cap": 20.0, "jitter": "equal"},
    "exponential-decay": {
        "tries": 176,
        "first": 1.0,
        "factor": 2.0,
        "cap": 512.0,
        "jitter": "none",
        "age": 86_400.0,
    },
}
"""The values of each named schedule. A `retry` table that names a schedule may replace single values."""

_JITTER_BEFORE = {True: "full", False: "none"}
"""Jitter as version 0.1.0 stored it."""


def _seconds(written: object) -> object:
    """Converts a text such as `5m` to seconds, here 300.0; returns any other value unchanged."""
    if not isinstance(written, str):
        return written
    try:
        return read_duration(written)
    except InputError as error:
        raise ValueError(f"{error}, or seconds as a number") from None


Duration = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=float | str)]
"""Seconds, as a number or as a text such as `5m`."""


class Policy(BaseModel):
    """Base of frozen models that refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetryPolicy(Policy):
    """Waits between the attempts of a delivery, and the limits after which it is dead.

    `schedule`: a named schedule that gives the values of all keys that are not set. `tries`: attempts, the first
    included. Waits grow exponentially, by `factor` from `first` to `cap` seconds, or are the `delays` in seconds, the
    last of which repeats. `jitter`: `full` draws each wait between zero and its length, `equal` between half of it and
    its length, `none` keeps it. `age`: seconds after the first attempt or the first deferral at which a delivery is
    dead, however many tries are left. `statuses`: HTTP statuses that are retried instead of rejected.
    """

    schedule: str | None = None
    tries: int = Field(default=16, ge=1, le=1000)
    first: Duration = Field(default=1.0, gt=0, le=86_400)
    factor: float = Field(default=2.0, ge=1, le=100)
    cap: Duration = Field(default=3600.0, gt=0, le=604_800)
    delays: tuple[Duration, ...] = Field(default=(), max_length=1000)
    jitter: Literal["full", "equal", "none"] = "full"
    age: Duration = Field(default=604_800.0, gt=0, le=2_592_000)
    statuses: tuple[int, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_schedule(cls, given: Any) -> Any:  # noqa: ANN401 - not validated yet
        """Replaces `"backoff"` or `{schedule = "backoff", tries = 5}` by the values of the schedule."""
        if isinstance(given, str):
            given = {"schedule": given}
        if not isinstance(given, dict):
            return given
        values = dict(cast("dict[str, Any]", given))
        name = values.get("schedule")
        if name is not None:
            if name not in SCHEDULES:
                raise ValueError(f"schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
            values = {**SCHEDULES[name], **values}
        if isinstance(values.get("jitter"), bool):
            values["jitter"] = _JITTER_BEFORE[values["jitter"]]
        return values

    @model_validator(mode="after")
    def _list_items_are_in_range(self) -> RetryPolicy:
        if any(not 0 <= delay <= 604_800 for delay in self.delays):
            raise ValueError("delays: each must be between 0 and 604800 seconds")
        if any(not 300 <= status <= 499 for status in self.statuses):
            raise ValueError(
                "statuses: each must be between 300 and 499; the others are always retried, or mean delivered"
            )
        return self


class BreakerPolicy(Policy):
    """Circuit breaker of a target.

    It opens when at least `attempts` ended within the last `window` seconds and a `share` of them failed. It stays
    open for `rest` seconds, then sends a probe; each probe that fails doubles the time, up to `longest` seconds.
    """

    share: float = Field(default=0.5, gt=0, le=1)
    window: Duration = Field(default=30.0, ge=1, le=3600)
    attempts: int = Field(default=20, ge=1, le=100_000)
    rest: Duration = Field(default=10.0, gt=0, le=3600)
    longest: Duration = Field(default=600.0, gt=0, le=86_400)

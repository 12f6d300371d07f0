"""The seam of sinks: one destination of deliveries, and the kind that builds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Protocol

import msgspec
from pydantic import BaseModel, ValidationError

from heliograph.bus.base import Bus
from heliograph.store.base import ObjectStore
from schemas.delivery import Delivery, Outcome, Reason, ReasonCode, Retry
from schemas.errors import InputError
from schemas.problems import problems

CLOSED = Retry(Reason(ReasonCode.UNAVAILABLE, "the target is being closed"))
"""The outcome of each delivery that a sink gets after its close."""


class Sink(Protocol):
    """One destination. Sends each delivery once; retries, order and rate are the caller's work."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Sends the batch and returns one outcome for each delivery, in order.

        A failed send is an outcome, and after `close` every outcome is CLOSED; an exception is a bug. A cancelled call
        leaves the sink usable.
        """
        ...

    async def close(self) -> None:
        """Closes connections and ends workers; deliveries that are being sent still get outcomes. A second call changes
        nothing."""
        ...


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a deployment that its sinks use.

    `allow_networks`: private networks that callbacks may reach; `function_modules`: modules that targets of kind
    `python` may name (`a.b` is that module, `a.*` every module below `a`); `function_path`: a folder that is searched
    for them before all others; `logs`: folder of the local log store; `objects`: the store of targets of kind `object`.
    """

    bus: Bus
    objects: ObjectStore
    logs: Path
    allow_networks: Sequence[IPv4Network | IPv6Network] = ()
    function_modules: Sequence[str] = ()
    function_path: Path | None = None


def settings_suffice(settings: BaseModel, context: Callable[[], SinkContext]) -> None:
    """Examines nothing: the kind cannot fail before its first delivery if its settings are valid."""


class SinkKind(msgspec.Struct, frozen=True):
    """A kind of sink: the model of its settings, how to build a sink, and how to examine a target before use.

    `build` neither blocks nor needs an event loop; what fails later is an outcome of `deliver`. `batch`: largest number
    of deliveries in one call, unless the target sets another. `examine` tries what a target needs on this machine, such
    as its secrets, and sends nothing; it raises InputError or StoreError that says what is missing. It gets the context
    as a function and calls it only if it needs the context, so that an object store that cannot be opened fails no
    other kind.
    """

    settings: type[BaseModel]
    build: Callable[[Any, SinkContext], Sink]
    batch: int = 1
    examine: Callable[[Any, Callable[[], SinkContext]], None] = settings_suffice

    def problems(self, settings: Mapping[str, Any], beside: Iterable[str] = ()) -> list[str]:
        """Returns one line `key: problem` for each invalid setting. `beside`: keys of the target outside its settings,
        suggested where an unknown key resembles one."""
        try:
            self.settings.model_validate(settings)
        except ValidationError as error:
            return problems(error, self.settings, beside)
        return []

    def read_settings(self, settings: Mapping[str, Any]) -> BaseModel:
        """Returns the settings as the kind's model. Raises InputError that lists every invalid setting."""
        found = self.problems(settings)
        if found:
            raise InputError("; ".join(found))
        return self.settings.model_validate(settings)

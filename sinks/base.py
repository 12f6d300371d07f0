"""The Sink seam: one kind of destination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Protocol

import msgspec
from pydantic import BaseModel, ValidationError

from heliograph.bus.base import Bus
from heliograph.store.base import ObjectStore
from schemas.delivery import Delivery, Outcome
from schemas.problems import problems


class Sink(Protocol):
    """One destination. Sends once; knows nothing of retry, order or rate."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """One outcome per delivery, in order. A failed send is an outcome; an exception is a bug."""
        ...

    async def close(self) -> None:
        """Let go of connections and workers."""
        ...


class SinkContext(msgspec.Struct, frozen=True):
    """What a deployment lends to its sinks.

    `allow_networks`: private networks that callbacks may reach; `function_modules`: modules that targets of kind
    `python` may name (`a.b` is that module, `a.*` every module below `a`); `function_path`: a folder they may be
    imported from, before all others; `logs`: folder of the local log store; `objects`: the store of targets of kind
    `object`.
    """

    bus: Bus
    objects: ObjectStore
    logs: Path
    allow_networks: Sequence[IPv4Network | IPv6Network] = ()
    function_modules: Sequence[str] = ()
    function_path: Path | None = None


class SinkKind(msgspec.Struct, frozen=True):
    """A kind of sink: the model of its settings, and how to build one.

    `build` neither blocks nor needs an event loop; what cannot work is an outcome of `deliver`. `batch` is how many
    deliveries one call takes when the target does not say.
    """

    settings: type[BaseModel]
    build: Callable[[Any, SinkContext], Sink]
    batch: int = 1

    def problems(self, settings: Mapping[str, Any], beside: Iterable[str] = ()) -> list[str]:
        """One line `key: problem` for each setting that cannot work; none if all can. `beside`: keys that stand beside
        settings, and may have been meant."""
        try:
            self.settings.model_validate(settings)
        except ValidationError as error:
            return problems(error, self.settings, beside)
        return []

"""The parts of one deployment, opened at their first use and closed together."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property
from types import TracebackType
from typing import Self

from heliograph.app.config import Config
from heliograph.bus.base import Bus
from heliograph.bus.open import open_bus
from heliograph.store.base import ObjectStore
from heliograph.store.open import open_store
from schemas.clock import Clock, SystemClock
from schemas.errors import InputError, InvalidConfiguration, StoreError
from sinks.base import SinkContext


class Deployment:
    """Bus, archive, object store and the context of sinks, as the configuration names them. A context manager."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self._opened = ExitStack()

    @cached_property
    def bus(self) -> Bus:
        """The bus. Raises BusError, InvalidConfiguration."""
        section = self.config.bus
        bus = open_bus(
            self.config.bus_url,
            partitions=section.partitions,
            namespace=section.namespace,
            retention=section.retention_hours * 3600,
            reserve=section.reserve_mb * 2**20,
            clock=self.clock,
        )
        self._opened.callback(bus.close)
        return bus

    @cached_property
    def archive(self) -> ObjectStore:
        """The store of segments. Raises StoreError, InvalidConfiguration."""
        return self._store("archive.url", self.config.archive_url)

    @cached_property
    def objects(self) -> ObjectStore:
        """The store of targets of kind `object`. Raises StoreError, InvalidConfiguration."""
        return self._store("delivery.objects", self.config.objects_url)

    @cached_property
    def sink_context(self) -> SinkContext:
        """The parts and settings that sinks use. Raises BusError, StoreError, InvalidConfiguration."""
        delivery = self.config.delivery
        return SinkContext(
            bus=self.bus,
            objects=self.objects,
            logs=self.config.logs_folder,
            allow_networks=delivery.allow_networks,
            function_modules=delivery.function_modules,
            function_path=delivery.function_path,
        )

    def open(self) -> Self:
        """Opens bus and stores before threads use them; returns this deployment.

        Ignores a store that does not answer, which may answer the roles later. Raises InputError for a URL that is not
        valid, BusError for a bus that cannot be used.
        """
        self.bus.topics()
        for name in ("archive", "objects"):
            with suppress(StoreError):
                getattr(self, name)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _store(self, setting: str, url: str) -> ObjectStore:
        try:
            store = open_store(url)
        except InputError as error:
            raise InvalidConfiguration([f"{setting}: {error}"]) from None
        self._opened.callback(store.close)
        return store

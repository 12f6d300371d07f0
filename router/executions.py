"""The role that routes execution records to stores, by the delivery settings of their region."""

from __future__ import annotations

import structlog

from heliograph.bus.base import Bus, Consumer
from heliograph.bus.gaps import report_gaps
from router.configuration import Configuration
from router.deliveries import RecordDeliveries
from schemas.errors import InvalidExecution
from schemas.execution import check_execution
from schemas.metrics import MATCHED, REJECTED, ROUTED
from schemas.record import NewRecord, Record
from schemas.rejects import rejected_record
from schemas.role import ConsumerRole
from schemas.topics import DELIVERIES, EXECUTIONS, REJECTS

_BATCH = 200
"""Records of one poll: each may have 256 KiB, and becomes a delivery to a bucket and one to a log store."""
_LONGEST_POLL = 0.5
"""Seconds."""
_log = structlog.get_logger()


class ExecutionRouter(ConsumerRole[Consumer]):
    """Builds a delivery of each final execution record for each store in the settings of its region.

    The settings are read after each poll, so a record is routed by those in force when it was appended, or later ones.
    A record that is no execution record goes to `rejects`. Records of a run that continues, and of regions without
    settings, are not delivered.
    """

    name = "executions"
    topics = (EXECUTIONS,)

    def __init__(self, bus: Bus) -> None:
        for topic in (EXECUTIONS, DELIVERIES, REJECTS):
            bus.create(topic)
        self._bus = bus
        self._configuration = Configuration(bus)
        self._configuration.refresh()
        self._compile()
        self._uncommitted = False
        self._consumer = bus.consumer(self.topics, self.name)

    def step(self, timeout: float) -> None:
        """Routes the records of one poll. Raises BusError."""
        polled = self._consumer.poll(_BATCH, min(timeout, _LONGEST_POLL))
        report_gaps(self.name, polled.gaps)
        self._uncommitted = bool(polled.records)
        if self._configuration.refresh():
            self._compile()
        records = [new for record in polled.records for new in self._route(record)]
        if polled.records:
            self._consumer.done([record.position for record in polled.records], records)
            ROUTED.labels(EXECUTIONS).inc(len(polled.records))
        self._uncommitted = False

    def busy(self) -> bool:
        """True if records were polled and are not committed."""
        return self._uncommitted

    def _route(self, record: Record) -> list[NewRecord]:
        try:
            execution = check_execution(record.value)
        except InvalidExecution as error:
            REJECTED.labels(self.name).inc()
            return [rejected_record(record.value, str(error), f"{self.name} {record.position}")]
        settings = self._settings.get(execution.region_id)
        if not execution.invocation_status.final:
            return []
        if settings is None or not settings.on:
            self._warn_once(execution.region_id)
            return []
        MATCHED.labels(settings.name).inc()
        return self._deliveries.build(record, execution, settings)

    def _compile(self) -> None:
        self._settings = self._configuration.read_settings()
        self._deliveries = RecordDeliveries(self._bus, self._configuration.version)
        self._warned = set[str]()

    def _warn_once(self, region: str) -> None:
        """Logs once for each version that the records of a region are not delivered."""
        if region not in self._warned:
            self._warned.add(region)
            _log.warning("no delivery settings for the region, its records are not delivered", region=region)

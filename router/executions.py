"""Execution records become deliveries, by the delivery settings of their region. Poll, check, append, done."""

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
"""Records of one poll: each may be 256 KiB, and becomes a delivery for a bucket and one for a log store."""
_LONGEST_POLL = 0.5
_log = structlog.get_logger()


class ExecutionRouter(ConsumerRole[Consumer]):
    """Role `executions`: a delivery of each final record for each store that its region's settings name.

    The settings are read after each poll, so a record meets at least what was in force when it was appended. What is
    not an execution record goes to `rejects`. Records of a run that goes on, and of a region without settings, stay in
    the topic and are not delivered.
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
        self._underway = False
        self._consumer = bus.consumer(self.topics, self.name)

    def step(self, timeout: float) -> None:
        """Route the records of one poll. Raises BusError."""
        polled = self._consumer.poll(_BATCH, min(timeout, _LONGEST_POLL))
        report_gaps(self.name, polled.gaps)
        self._underway = bool(polled.records)
        if self._configuration.refresh():
            self._compile()
        follows = [new for record in polled.records for new in self._route(record)]
        if polled.records:
            self._consumer.done([record.position for record in polled.records], follows)
            ROUTED.labels(EXECUTIONS).inc(len(polled.records))
        self._underway = False

    def busy(self) -> bool:
        """Whether records are between their poll and their commit."""
        return self._underway

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
            self._keep(execution.region_id)
            return []
        MATCHED.labels(settings.name).inc()
        return self._deliveries.of(record, execution, settings)

    def _compile(self) -> None:
        self._settings = self._configuration.read_settings()
        self._deliveries = RecordDeliveries(self._bus, self._configuration.version)
        self._kept = set[str]()

    def _keep(self, region: str) -> None:
        """Say once under each version that the records of a region go nowhere."""
        if region not in self._kept:
            self._kept.add(region)
            _log.warning("no delivery settings, records stay in the topic", region=region)

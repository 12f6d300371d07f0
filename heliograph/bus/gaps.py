"""Reports records that were removed before a group had read them, so that no loss is silent."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from schemas.metrics import GAPS
from schemas.record import Gap

_log = structlog.get_logger()


def report_gaps(reader: str, gaps: Iterable[Gap]) -> None:
    """Logs each gap of a poll, and counts its records in the metric of `reader`, the name of the one that polled."""
    for gap in gaps:
        _log.error(
            "records are missing from the topic",
            role=reader,
            topic=gap.topic,
            partition=gap.partition,
            start=gap.start,
            end=gap.end,
        )
        GAPS.labels(reader, gap.topic).inc(gap.end - gap.start)

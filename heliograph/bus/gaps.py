"""Records that the log lost before a role had read them: said and counted, never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from schemas.metrics import GAPS
from schemas.record import Gap

_log = structlog.get_logger()


def report_gaps(role: str, gaps: Iterable[Gap]) -> None:
    """Say and count what a poll of a role did not bring."""
    for gap in gaps:
        _log.error(
            "records are missing from the log",
            role=role,
            topic=gap.topic,
            partition=gap.partition,
            start=gap.start,
            end=gap.end,
        )
        GAPS.labels(role, gap.topic).inc(gap.end - gap.start)

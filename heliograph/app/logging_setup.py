"""Structured logs: a line for each thing that matters; JSON when nobody watches."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

from heliograph.app.config import LogSection


def configure(section: LogSection) -> None:
    """Send every log line to standard error, at or above the level."""
    console = section.format == "console" or (section.format == "auto" and sys.stderr.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_visible] if console else ()),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[section.level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values come from records and receivers too: what a terminal would obey is escaped. JSON does that by itself."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = repr(value)
    return event

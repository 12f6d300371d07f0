"""Reasons for which kafka-python closed connections. It reports a refused login or a failed handshake to its logger only."""

from __future__ import annotations

import logging
import time

_RECENT = 10.0
"""Seconds for which the reason of a disconnect explains a failure."""


class _Disconnects(logging.Handler):
    """Keeps the last exception that the library logged about a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.last: BaseException | None = None
        self.at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the exception among the arguments of a log line."""
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, BaseException):
                self.last, self.at = argument, time.monotonic()


_disconnects = _Disconnects()


def watch_disconnects() -> None:
    """Takes over the loggers of kafka-python, when the first connection of a process is made: nothing of it is printed,
    since every failure reaches the caller as an exception, and errors of connections are kept. Harmless if repeated."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    connections = logging.getLogger("kafka.conn")
    connections.setLevel(logging.ERROR)
    connections.propagate = False
    connections.addHandler(_disconnects)


def last_disconnect() -> BaseException | None:
    """Returns the exception that closed a connection of this process within the last seconds."""
    return _disconnects.last if time.monotonic() - _disconnects.at < _RECENT else None

"""Why a connection of kafka-python was closed: a refused login or a failed handshake is told in its log alone."""

from __future__ import annotations

import logging
import time

_RECENT = 10.0
"""Seconds for which what was overheard explains a failure."""


class _Overheard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.last: BaseException | None = None
        self.at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error that a message is about."""
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, BaseException):
                self.last, self.at = argument, time.monotonic()


_handler = _Overheard()
_library = logging.getLogger("kafka")
_library.setLevel(logging.CRITICAL)
_connections = logging.getLogger("kafka.conn")
_connections.setLevel(logging.ERROR)
_connections.propagate = False
_connections.addHandler(_handler)


def reason() -> BaseException | None:
    """What closed a connection of this process within the last seconds."""
    return _handler.last if time.monotonic() - _handler.at < _RECENT else None

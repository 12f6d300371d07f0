"""The demo's receiver: one of its targets has left."""

from __future__ import annotations

from heliograph.testing.receiver import Answer, Receiver

GONE = "/gone"


class DemoReceiver(Receiver):
    """Takes everything but what comes to `/gone`."""

    def answer(self, path: str) -> Answer:
        """410 for good where nobody is any more."""
        return Answer(410, takes=False) if path == GONE else Answer()

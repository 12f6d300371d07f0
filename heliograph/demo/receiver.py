"""The demo's receiver, which answers 410 at one of its paths."""

from __future__ import annotations

from heliograph.testing.receiver import Answer, Receiver

GONE = "/gone"


class DemoReceiver(Receiver):
    """Takes every request, except those to `/gone`."""

    def answer(self, path: str) -> Answer:
        """Answers 410 at `/gone`, and 200 elsewhere."""
        return Answer(410, takes=False) if path == GONE else Answer()

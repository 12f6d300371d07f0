"""Calls of the command line in this process."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from heliograph.cli import main


class Answer(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that a command with `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Commands:
    """`call("topics", "--json")` on one home."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._capture = capture
        self._patch = patch

    def __call__(self, *words: str, feed: bytes = b"") -> Answer:
        self._patch.setattr(sys, "argv", ["heliograph", *words])
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(feed)))
        try:
            status = main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = self._capture.readouterr()
        return Answer(status, captured.out, captured.err)

    def done(self, *words: str, feed: bytes = b"") -> Answer:
        """Calls a command that must succeed."""
        answer = self(*words, feed=feed)
        assert answer.status == 0, answer
        return answer

    def refused(self, *words: str, feed: bytes = b"") -> str:
        """Calls a command that must fail as wrong input; returns what it printed to standard error."""
        answer = self(*words, feed=feed)
        assert (answer.status, answer.out) == (2, ""), answer
        assert "Traceback" not in answer.err
        return answer.err.rstrip("\n")

    def emit(self, state: str = "Running") -> str:
        """Emits one notification; returns its position."""
        built = ("emit", "Instance:StateChange", "--resource", "i-1", "--content", f"state={state}")
        return str(self.done(*built, "--json").rows[0]["position"])


@pytest.fixture
def call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Commands]:
    monkeypatch.setenv("HELIOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HELIOGRAPH_BUS_RESERVE_MB", "0")
    monkeypatch.setenv("HELIOGRAPH_DELIVERY_ALLOW_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("HELIOGRAPH_LOG_LEVEL", "error")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Commands(tmp_path / "home", capsys, monkeypatch)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    structlog.reset_defaults()

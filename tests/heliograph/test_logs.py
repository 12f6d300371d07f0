"""The form and the destination of log lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
import structlog

from heliograph.app import logging_setup
from heliograph.app.config import LogSection


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_log_lines_are_json_on_standard_error_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logging_setup.configure(LogSection())
    structlog.get_logger().info("role started", role="router")
    structlog.get_logger().debug("not at this level")
    out, err = capsys.readouterr()
    assert out == ""
    assert {"role": "router", "event": "role started", "level": "info"}.items() <= json.loads(err).items()


def test_log_lines_are_text_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logging_setup.configure(LogSection(level="warning"))
    structlog.get_logger().info("not at this level")
    structlog.get_logger().warning("target does not answer")
    err = capsys.readouterr().err
    assert "target does not answer" in err
    assert "{" not in err
    assert err.count("\n") == 1


def test_control_characters_are_escaped_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logging_setup.configure(LogSection(format="console"))
    structlog.get_logger().warning("function printed", line="\x1b]0;mine\x07\u202e")
    err = capsys.readouterr().err
    assert "]0;mine" in err
    assert not [sent for sent in ("\x1b]", "\x07", "\u202e") if sent in err]

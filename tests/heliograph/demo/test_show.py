"""The demo: every check holds, and a failed check is shown and fails the demo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from rich.console import Console

from heliograph.demo.reconcile import Check, Finding, Problem
from heliograph.demo.show import print_checks, run_demo


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_every_check_of_the_demo_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(events=50, serve=False)
    shown = capsys.readouterr().out
    assert "same bytes" in shown
    assert "OTHER BYTES" not in shown
    assert shown.count("holds") == 5


def test_a_check_with_findings_fails_the_demo_and_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("whole", 3, []), Check("broken", 2, [Finding(Problem.LOST, "a [delivery]")])]
    assert not print_checks(Console(), checks)
    shown = capsys.readouterr().out
    assert (shown.count("holds"), shown.count("FAILS")) == (1, 1)
    assert "lost: a [delivery]" in shown

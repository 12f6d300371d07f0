"""The demo holds; and its books fail when anything they count is tampered with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.app.roles import roles
from heliograph.app.runner import Runner
from heliograph.demo.reconcile import Books, Check, reconcile, take
from heliograph.demo.show import demonstrate
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.stream import generate
from schemas.record import NewRecord
from schemas.topics import DELIVERIES
from sinks.kinds import KINDS
from tests.acceptance.product import Hook

APPLIED = """
[[subscription]]
name = "called"
[[subscription.target]]
id = "webhook"
kind = "callback"
url = "{url}/hook"
"""
VALUES = list(generate(11, 20, 1_700_000_000_000))


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_the_demo_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert demonstrate(events=50, serve=False)
    shown = capsys.readouterr().out
    assert "same bytes" in shown
    assert "OTHER BYTES" not in shown
    assert shown.count("holds") == 9


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[tuple[Deployment, Books, Hook]]:
    """Everything at rest after twenty events."""
    environment = {
        "HELIOGRAPH_HOME": str(tmp_path),
        "HELIOGRAPH_BUS_RESERVE_MB": "0",
        "HELIOGRAPH_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    with Hook() as hook, Deployment(load(environment)) as deployment:
        apply(deployment.bus, read_file(APPLIED.format(url=hook.url)), KINDS)
        Edge(deployment.bus).submit(VALUES)
        runner = Runner(deployment.bus, roles(deployment))
        runner.start()
        runner.wait_until_idle()
        assert runner.join()
        yield deployment, take(deployment.bus), hook


def broken(
    deployment: Deployment, books: Books, received: Mapping[str, list[bytes]], accepted: list[bytes]
) -> set[str]:
    checks: list[Check] = reconcile(
        deployment.bus, deployment.archive, books, accepted=accepted, received=received
    )
    return {check.says for check in checks if not check.holds}


def test_the_books_find_what_was_tampered_with(ran: tuple[Deployment, Books, Hook]) -> None:
    deployment, books, hook = ran
    received = dict(hook.bodies)
    assert broken(deployment, books, received, VALUES) == set()
    changed = [*VALUES[:-1], VALUES[-1] + b" "]
    assert broken(deployment, books, received, changed) == {"… with the same bytes"}
    assert "accepted events = events in the log" in broken(deployment, books, received, VALUES[1:])
    first, *others = received
    assert "webhook deliveries = received by the webhook" in broken(
        deployment, books, {one: received[one] for one in others}, VALUES
    )
    assert broken(deployment, books, {**received, first: [b"{}"]}, VALUES) == {"… with the same bytes"}
    lost = Books(books.events, books.deliveries, dict(list(books.verdicts.items())[1:]), books.waiting)
    assert "deliveries = delivered + dead + waiting" in broken(deployment, lost, received, VALUES)


def test_the_books_find_what_the_archive_lacks(ran: tuple[Deployment, Books, Hook]) -> None:
    deployment, books, hook = ran
    deployment.bus.append([NewRecord("verdicts", b"{}")])
    assert broken(deployment, books, hook.bodies, VALUES) == {
        "records appended = records archived",
        "… topic by topic",
    }


def test_the_books_find_an_event_that_was_not_routed(ran: tuple[Deployment, Books, Hook]) -> None:
    deployment, _, hook = ran
    Edge(deployment.bus).submit(VALUES[:1])
    found = broken(deployment, take(deployment.bus), hook.bodies, VALUES)
    assert "events in the log = routed" in found
    assert DELIVERIES in deployment.bus.topics()

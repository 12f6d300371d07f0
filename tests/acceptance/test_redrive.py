"""A redrive to a receiver that was down: it gets each missed event once, even if the redrive is killed."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from heliograph.bus.reading import read_topic
from producers.stream import generate
from schemas.clock import SystemClock
from schemas.delivery import VerdictState, read_verdict
from schemas.topics import DEAD_LETTERS, DELIVERIES, VERDICTS
from tests.acceptance.product import Hook, Product, until

SUBSCRIPTION = """
[[subscription]]
name = "all"
target = [{{ id = "hook", kind = "callback", url = "{url}/hook", retry = {{ tries = 1 }}, breaker = false }}]
"""
EACH = 60


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as found:
        found.statuses = {"/hook": 500}
        yield found


@pytest.fixture
def product(tmp_path: Path, hook: Hook) -> Iterator[Product]:
    with ExitStack() as started:
        made = Product(tmp_path / "home", started=started)
        made.apply(SUBSCRIPTION.format(url=hook.url))
        yield made


def emit_and_fail(product: Product, values: Sequence[bytes]) -> None:
    """Emits events whose deliveries all end dead."""
    product.do("emit", "--file", "-", feed=b"\n".join(values))
    product.until_idle()


def apply_retention(product: Product) -> None:
    """Removes by retention the records that every role has finished."""
    short = Product(product.home, HELIOGRAPH_BUS_RETENTION_HOURS="0.000001")
    with closing(short.bus()) as bus:
        bus.maintain()
        assert not list(read_topic(bus, DEAD_LETTERS))


def read_redrives(product: Product) -> dict[str, str]:
    """Returns the redrive by which each delivery was delivered."""
    with product.deployment() as deployment:
        verdicts = [read_verdict(record.value) for record in read_topic(deployment.bus, VERDICTS)]
    return {one.delivery: one.redrive for one in verdicts if one.state is VerdictState.DELIVERED}


def interrupt(product: Product, number: signal.Signals, *words: str) -> list[str]:
    """Begins a redrive and ends it by a signal after its first batch; returns the command that resumes it."""
    before = product.count(DELIVERIES)
    process = product.start("dead-letters", "redrive", "--rate", "20", "--yes", *words)
    until(lambda: product.count(DELIVERIES) > before)
    process.send_signal(number)
    assert process.wait(30) == (130 if number is signal.SIGINT else -number)
    assert product.count(DELIVERIES) < before + 2 * EACH
    (found,) = re.findall(
        r"^redrive .*?; if interrupted, resume with: heliograph (.*)$", product.log(), re.MULTILINE
    )
    return shlex.split(found)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_missed_events_are_redriven_once_though_the_redrive_is_killed(
    product: Product, hook: Hook, number: signal.Signals
) -> None:
    values = list(generate(5, 2 * EACH, SystemClock().now()))
    emit_and_fail(product, values[:EACH])
    apply_retention(product)
    emit_and_fail(product, values[EACH:])
    letters = {row["delivery"]: row for row in product.rows("dead-letters", "list")}
    assert len(letters) == 2 * EACH
    assert sum(row["archived"] for row in letters.values()) == EACH
    assert {arrival.delivery for arrival in hook.arrivals} == set(letters)
    hook.statuses = {}
    resumed = interrupt(product, number, "--all")
    product.until_idle()
    assert 0 < len(hook.bodies) < len(letters)
    (done,) = product.rows(*resumed)
    assert done["sent"] + done.get("sent-before", 0) <= len(letters)
    product.until_idle()
    assert {one: [body.decode() for body in bodies] for one, bodies in hook.bodies.items()} == {
        one: [row["event"]] for one, row in letters.items()
    }
    assert read_redrives(product) == dict.fromkeys(letters, done["redrive"])
    assert product.rows("dead-letters", "list") == []
    assert product.rows("dead-letters", "redrive", "--all", "--dry-run") == []
    product.do("archive", "verify")

"""Prints one event at every stage, and two of its run's deliveries: one that arrived and one that did not."""

from __future__ import annotations

import orjson
from rich.console import Console
from rich.markup import escape

from archiver.read.reader import read_records
from heliograph.app.deployment import Deployment
from heliograph.demo.reconcile import Run, read_topics
from heliograph.operations.why import explain_routing
from schemas.delivery import Verdict, VerdictState, read_delivery
from schemas.record import Position, Record
from schemas.topics import DELIVERIES


def print_account(console: Console, deployment: Deployment, run: Run) -> None:
    """Prints one event at every stage, why it matched, and two verdicts."""
    verdicts = run.read_verdicts().values()
    delivered = next(
        one for one in verdicts if one.target == "webhook" and one.state is VerdictState.DELIVERED
    )
    source = Position.parse(delivered.source)
    event = next(record for record in run.records if record.position == source)
    console.rule("one event at each stage")
    _print_stages(console, deployment, run, event, delivered)
    console.rule("why it went to these targets: heliograph events why")
    _print_why(console, deployment, event)
    console.rule("a delivery that arrived, and one that did not")
    _print_verdict(console, delivered)
    _print_verdict(console, next(one for one in verdicts if one.state is VerdictState.DEAD))


def _print_stages(
    console: Console, deployment: Deployment, run: Run, event: Record, verdict: Verdict
) -> None:
    deliveries = map(read_delivery, read_topics(deployment.bus, [DELIVERIES]))
    delivery = next(one for one in deliveries if one.id == verdict.delivery)
    got = run.received[verdict.target][verdict.delivery][0]
    archived = next(
        record.value
        for record in read_records(deployment.archive, [event.topic])
        if (record.partition, record.offset) == (event.partition, event.offset)
    )
    console.print(escape(orjson.dumps(orjson.loads(event.value), option=orjson.OPT_INDENT_2).decode()))
    for stage, where, same in (
        ("topic", str(event.position), True),
        (
            "delivery",
            f"{delivery.id} of {delivery.subscription} to {delivery.target}",
            delivery.event == event.value,
        ),
        ("receiver", f"{len(got)} bytes, webhook-id {delivery.id}", got == event.value),
        (
            "archive",
            f"{event.topic} partition {event.partition} offset {event.offset}",
            archived == event.value,
        ),
    ):
        console.print(f"{stage:<10}{escape(where)}  [{'green]same bytes' if same else 'red]OTHER BYTES'}")


def _print_why(console: Console, deployment: Deployment, event: Record) -> None:
    for line in explain_routing(deployment.bus, event.position):
        if line.matched:
            console.print(
                f"[green]matched[/]      {line.subscription} → {', '.join(made.target for made in line.deliveries)}"
            )
        else:
            console.print(f"[yellow]not matched[/]  {line.subscription}: {escape(line.because)}")


def _print_verdict(console: Console, verdict: Verdict) -> None:
    attempts = verdict.attempts
    console.print(f"{verdict.delivery}  {verdict.subscription} → {verdict.target}: [bold]{verdict.state}[/]")
    last = attempts.last[-1]
    outcome = last.reason.detail if last.reason else last.receipt or "accepted"
    console.print(
        f"  {attempts.count} attempt(s), the last took {last.took * 1000:.1f} ms: {escape(outcome)}"
    )

"""One event followed through every stage, and two deliveries explained: one that arrived and one that did not."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from rich.console import Console
from rich.markup import escape

from archiver.read.reader import read_records
from heliograph.app.deployment import Deployment
from heliograph.demo.reconcile import Books
from heliograph.operations.why import explain_routing
from schemas.delivery import Verdict, VerdictState, read_delivery
from schemas.record import Position, Record


def tell(console: Console, deployment: Deployment, books: Books, received: Mapping[str, list[bytes]]) -> None:
    """Print the account."""
    delivered = next(
        one
        for one in books.verdicts.values()
        if one.target == "webhook" and one.state is VerdictState.DELIVERED
    )
    event = _event(books, Position.parse(delivered.source))
    console.rule("one event at each stage")
    _stages(console, deployment, books, event, delivered, received)
    console.rule("why it reached whom: heliograph events why")
    _why(console, deployment, event)
    console.rule("a delivery that arrived, and one that did not")
    _verdict(console, delivered)
    _verdict(console, next(one for one in books.verdicts.values() if one.state is VerdictState.DEAD))


def _stages(
    console: Console,
    deployment: Deployment,
    books: Books,
    event: Record,
    verdict: Verdict,
    received: Mapping[str, list[bytes]],
) -> None:
    delivery = read_delivery(books.deliveries[verdict.delivery])
    got = received[verdict.delivery][0]
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


def _why(console: Console, deployment: Deployment, event: Record) -> None:
    for line in explain_routing(deployment.bus, event.position):
        if line.matched:
            console.print(
                f"[green]matched[/]      {line.subscription} → {', '.join(made.target for made in line.deliveries)}"
            )
        else:
            console.print(f"[yellow]not matched[/]  {line.subscription}: {escape(line.because)}")


def _verdict(console: Console, verdict: Verdict) -> None:
    attempts = verdict.attempts
    console.print(f"{verdict.delivery}  {verdict.subscription} → {verdict.target}: [bold]{verdict.state}[/]")
    last = attempts.last[-1]
    outcome = last.reason.detail if last.reason else last.receipt or "accepted"
    console.print(
        f"  {attempts.count} attempt(s), the last took {last.took * 1000:.1f} ms: {escape(outcome)}"
    )


def _event(books: Books, position: Position) -> Record:
    return next(record for record in books.events if record.position == position)

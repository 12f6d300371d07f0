"""`heliograph dead-letters list`, `show` and `drop`: what ended undelivered, kept whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli import redrive
from heliograph.cli.choosing import (
    Chosen,
    Which,
    changed_by,
    check_named,
    confirm,
    fail_without_archive,
    wanted_by,
)
from heliograph.cli.deliveries import attempt_rows, show_with_attempts
from heliograph.cli.options import takes
from heliograph.cli.output import Json, document, moment, open_deployment, operator, progress, show, text_of
from heliograph.operations.history import history_of
from schemas.delivery import VerdictState
from schemas.errors import InputError, NotFound

if TYPE_CHECKING:
    from heliograph.operations.dead_letters import DeadLetter
    from heliograph.operations.standing import Standing

app = typer.Typer(
    help="Dead letters: what ended undelivered, kept whole.", no_args_is_help=True, rich_markup_mode=None
)
redrive.register(app)


@app.command("list")
@takes(Which)
def list_letters(
    which: Which,
    include_dropped: Annotated[
        bool, typer.Option("--include-dropped", help="Those that an operator or a redrive dropped, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what ended undelivered, with the reason, from log and archive."""
    from heliograph.operations.dead_letters import find_standing, read_letters

    with open_deployment() as deployment:
        history = history_of(deployment)
        letters, standing = find_standing(
            history, wanted_by(which, deployment.clock.now()), dropped=include_dropped
        )
        rows = (
            {"state": _state(one.letter.id, standing), **_row(one)}
            for batch in read_letters(history, letters)
            for one in batch
        )
        columns = (
            "time",
            "state",
            "delivery",
            "target",
            "subscription",
            "tries",
            "exhausted",
            "error",
            "message",
        )
        show(rows, columns, as_json=as_json)
    fail_without_archive(history)


@app.command("show")
def show_letter(delivery: str, as_json: Json = False) -> None:
    """Show one dead letter with its event, also one that was dropped."""
    from heliograph.operations.dead_letters import Wanted, find_standing, read_letters
    from heliograph.operations.deliveries import delivery_states
    from schemas.topics import VERDICTS

    with open_deployment() as deployment:
        history = history_of(deployment)
        letters, _ = find_standing(history, Wanted(deliveries=frozenset({delivery})))
        found = [one for batch in read_letters(history, letters) for one in batch]
        if not found:
            raise NotFound(
                f"delivery {delivery!r}: is no dead letter; `heliograph deliveries show` says where it stands"
            )
        archived = (record for _, record in history.archived(VERDICTS, found[0].letter.event_time))
        stands = delivery_states(deployment.bus, [delivery], archived)[delivery]
    show_with_attempts(
        {"state": stands.state, **_row(found[0]), "by": stands.by, "why": stands.why}, as_json=as_json
    )
    fail_without_archive(history)


@app.command()
@takes(Chosen)
def drop(
    chosen: Chosen,
    why: Annotated[str, typer.Option("--why", help="Why, for those who ask later.")] = "",
    as_json: Json = False,
) -> None:
    """Give dead letters up for good. Each gets the verdict `dropped`, with who did it and why."""
    from heliograph.operations.dead_letters import drop_letters, find_standing, read_letters

    if not why.strip():
        raise InputError("--why: is missing; the verdict keeps it")
    count = 0
    with open_deployment() as deployment:
        history = history_of(deployment)
        wanted = changed_by(chosen, deployment.clock.now())
        letters, standing = find_standing(history, wanted)
        check_named(wanted, {letter.id for letter in letters})
        to_drop = [
            one for one in letters if not standing.is_under_way(one.id) and standing.ended_as(one.id) is None
        ]
        if to_drop:
            confirm(chosen, f"drop {len(to_drop)} dead letters")
        with progress(len(to_drop), "dead letters") as advance:
            for batch in read_letters(history, to_drop):
                drop_letters(deployment.bus, batch, deployment.clock.now(), by=operator(), why=why)
                count += len(batch)
                advance(len(batch))
    document(
        {"dropped": count, "under-way": sum(standing.is_under_way(one.id) for one in letters)},
        as_json=as_json,
    )
    fail_without_archive(history)


def _state(delivery: str, standing: Standing) -> str:
    from heliograph.operations.deliveries import DeliveryStatus

    if standing.is_under_way(delivery):
        return DeliveryStatus.UNDER_WAY
    return standing.ended_as(delivery) or VerdictState.DEAD


def _row(one: DeadLetter) -> dict[str, Any]:
    delivery = one.delivery
    return {
        "time": moment(one.letter.at),
        "position": str(one.record.position),
        "archived": one.letter.segment is not None,
        "delivery": delivery.id,
        "target": delivery.target,
        "subscription": delivery.subscription,
        "source": str(delivery.source),
        "resource": delivery.resource,
        "tries": delivery.attempts.count,
        "exhausted": one.letter.exhausted,
        "error": one.letter.error,
        "message": one.message,
        "redrive": delivery.redrive,
        "attempts": attempt_rows(delivery.attempts),
        "event": text_of(delivery.event),
    }

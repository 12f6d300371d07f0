"""`heliograph dead-letters redrive`: what ended undelivered is sent again."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.choosing import Chosen, changed_by, check_named, confirm, fail_without_archive
from heliograph.cli.options import takes
from heliograph.cli.output import Json, document, moment, note, open_deployment, operator, progress, show
from heliograph.operations.history import history_of
from schemas.errors import HeliographError, InputError

if TYPE_CHECKING:
    from heliograph.operations.redrive import Plan, Redrive, Redriving


class Redriven(Chosen, frozen=True):
    """Which letters are redriven, and how."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done; do nothing.")] = False
    as_new: Annotated[bool, typer.Option("--as-new", help="Each under a new delivery id.")] = False
    rate: Annotated[
        float | None, typer.Option("--rate", help="Deliveries a second; 100 without it.", min=0.01)
    ] = None
    order: Annotated[str, typer.Option("--order", help="oldest, newest-per-resource.")] = "oldest"
    resume: Annotated[
        str, typer.Option("--resume", metavar="REDRIVE", help="Go on with a redrive that was interrupted.")
    ] = ""


def register(app: typer.Typer) -> None:
    """Add the command below `dead-letters`."""
    app.command("redrive")(redrive)


@takes(Redriven)
def redrive(options: Redriven, as_json: Json = False) -> None:
    """Send dead letters again, under the same delivery ids.

    What is known as delivered, was dropped or is under way is not sent. Interrupted, it says how to go on.
    """
    from heliograph.operations.redrive import REFUSED, Redriving, make_plan

    with open_deployment() as deployment:
        clock, history = deployment.clock, history_of(deployment)
        wanted = _redrive(options, clock.now())
        plan = make_plan(history, wanted)
        counted = _counted(plan)
        if options.dry_run:
            show(counted, ("target", "subscription", "error", "letters", "what"), as_json=as_json)
            fail_without_archive(history)
            return
        if not options.resume:
            check_named(wanted.wanted, {letter.id for letter, _ in plan.fates})
        _ask(options, wanted, plan)
        work = Redriving(history, wanted, plan, clock)
        _run(work, wanted.id, _resuming(wanted, plan))
        counts = {str(fate): count for fate, count in work.counts.items() if count}
        document({"redrive": wanted.id, "sent": 0, **counts}, as_json=as_json)
        fail_without_archive(history)
    if any(work.counts[fate] for fate in REFUSED):
        raise typer.Exit(1)


def _redrive(options: Redriven, now: int) -> Redrive:
    """What the options ask for. Raises InputError."""
    from heliograph.operations.redrive import RATE, Order, Redrive, is_redrive_id, new_redrive_id

    orders = [str(order) for order in Order]
    if options.order not in orders:
        raise InputError(f"--order {options.order!r}: expected {', '.join(orders)}")
    if options.resume and not is_redrive_id(options.resume):
        raise InputError(
            f"--resume {options.resume!r}: expected the id that the redrive printed when it began"
        )
    return Redrive(
        options.resume or new_redrive_id(now),
        changed_by(options, now),
        Order(options.order),
        options.rate or RATE,
        options.as_new,
        operator(),
    )


def _counted(plan: Plan) -> list[dict[str, Any]]:
    """How many letters of which target, subscription and error have which fate."""
    counts = Counter(
        (letter.target, letter.subscription, letter.error, str(fate)) for letter, fate in plan.fates
    )
    names = ("target", "subscription", "error", "what")
    return [{**dict(zip(names, key, strict=True)), "letters": count} for key, count in sorted(counts.items())]


def _ask(options: Redriven, redrive: Redrive, plan: Plan) -> None:
    from heliograph.operations.redrive import Fate

    letters, older = plan.of(Fate.SENT), len(plan.of(Fate.OLDER))
    seconds = math.ceil(len(letters) / redrive.rate)
    targets = ", ".join(sorted({letter.target for letter in letters}))
    deeds = [f"redrive {len(letters)} dead letters to {targets} within about {seconds} s"] if letters else []
    deeds += [f"drop {older} older states of their resources"] if older else []
    if deeds:
        confirm(options, " and ".join(deeds))


def _run(work: Redriving, redrive: str, resumed: str) -> None:
    """Send what is to be sent, and say how to go on where that ends early."""
    from heliograph.operations.redrive import Fate

    count = len(work.plan.of(Fate.SENT))
    if count:
        note(f"redrive {redrive}; if it is interrupted: {resumed}")
    try:
        with progress(count, "dead letters") as advance:
            work.run(advance)
    except (KeyboardInterrupt, HeliographError):
        note(f"ended early, after {work.counts[Fate.SENT]} of {count}; go on with: {resumed}")
        raise


def _resuming(redrive: Redrive, plan: Plan) -> str:
    """The command that goes on with a redrive: about the same letters, and none that died since."""
    wanted = redrive.wanted
    until = min(wanted.until, max((letter.at + 1 for letter, _ in plan.fates), default=0))
    options = {
        "--resume": redrive.id,
        "--target": wanted.target,
        "--subscription": wanted.subscription,
        "--since": moment(wanted.since) if wanted.since else "",
        "--until": moment(until) if until else "",
        "--error": wanted.error or "",
        "--exhausted": wanted.exhausted or "",
        "--name": wanted.name,
        "--resource": wanted.resource,
        "--order": redrive.order,
        "--rate": f"{redrive.rate:g}",
    }
    words = ["heliograph", "dead-letters", "redrive"]
    words += [word for option, value in options.items() if value for word in (option, str(value))]
    words += [word for one in sorted(wanted.deliveries) for word in ("--delivery", one)]
    return shlex.join([*words, *(["--as-new"] if redrive.as_new else []), "--yes"])

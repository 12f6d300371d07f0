"""Which dead letters a command is about, and whether it may change them."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from heliograph.cli.output import note
from schemas.delivery import Exhausted, ReasonCode
from schemas.errors import InputError, NotFound
from schemas.times import parse_when

if TYPE_CHECKING:
    from heliograph.operations.dead_letters import Wanted
    from heliograph.operations.history import History


class Which(msgspec.Struct, frozen=True):
    """Which letters a command is about."""

    target: Annotated[str, typer.Option("--target", help="A target's id.")] = ""
    subscription: Annotated[str, typer.Option("--subscription", help="A subscription's name.")] = ""
    since: Annotated[str, typer.Option("--since", help="Died at or after a time (2h, 2026-01-31).")] = ""
    until: Annotated[str, typer.Option("--until", help="Died before a time.")] = ""
    error: Annotated[ReasonCode | None, typer.Option("--error", help="Why the last attempt failed.")] = None
    exhausted: Annotated[Exhausted | None, typer.Option("--exhausted", help="Which limit was met.")] = None
    name: Annotated[str, typer.Option("--name", help="The event's name, or a pattern with *.")] = ""
    resource: Annotated[str, typer.Option("--resource", help="Resource id or ARN.")] = ""
    delivery: Annotated[
        list[str] | None, typer.Option("--delivery", help="A delivery's id; again for each.")
    ] = None


class Chosen(Which, frozen=True):
    """Which letters a command changes."""

    everything: Annotated[bool, typer.Option("--all", help="Every letter: needed without a filter.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


def wanted_by(which: Which, now: int) -> Wanted:
    """The filter that the options make. `now`: milliseconds since the epoch. Raises InputError."""
    from heliograph.operations.dead_letters import Wanted

    return Wanted(
        which.target,
        which.subscription,
        parse_when(which.since, now) if which.since else 0,
        parse_when(which.until, now) if which.until else 2**62,
        which.error,
        which.exhausted,
        which.name,
        which.resource,
        frozenset(which.delivery or ()),
    )


def changed_by(chosen: Chosen, now: int) -> Wanted:
    """The filter of a command that changes what it finds. Raises InputError if there is none, and no `--all`."""
    from heliograph.operations.dead_letters import Wanted

    wanted = wanted_by(chosen, now)
    if wanted == Wanted() and not chosen.everything:
        raise InputError(
            "no filter was given; say which letters (--target, --since …), or --all for every one"
        )
    return wanted


def check_named(wanted: Wanted, found: Collection[str]) -> None:
    """Raise NotFound for the deliveries that were named and are not among the letters that were found."""
    for one in sorted(wanted.deliveries.difference(found)):
        raise NotFound(
            f"delivery {one!r}: is no dead letter that the filter finds; `heliograph deliveries show` says where it stands"
        )


def confirm(chosen: Chosen, deed: str) -> None:
    """Ask whoever sits there. Raises InputError where nobody does, and leaves the command at a no."""
    if chosen.yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{deed}: there is no terminal to ask on; add --yes")
    if not typer.confirm(f"{deed}?", err=True):
        raise typer.Exit(1)


def fail_without_archive(history: History) -> None:
    """Say that the answer is of the log alone, and make the exit status 1, if the archive could not be read."""
    if history.problem:
        note(f"the archive cannot be read, this is of the log alone: {history.problem}")
        raise typer.Exit(1)

"""Options of the commands that select dead letters, and the filter that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.delivery import Exhausted, ReasonCode
from schemas.errors import InputError
from schemas.times import parse_when

if TYPE_CHECKING:
    from heliograph.operations.dead_letters import LetterFilter


def build_filter(
    now: int,
    *,
    target: str,
    subscription: str,
    since: str,
    until: str,
    error: ReasonCode | None,
    exhausted: Exhausted | None,
    name: str,
    resource: str,
    delivery: Sequence[str] | None,
) -> LetterFilter:
    """Builds the filter that the options describe. `now`: milliseconds since the epoch. Raises InputError."""
    from heliograph.operations.dead_letters import LetterFilter

    return LetterFilter(
        target=target,
        subscription=subscription,
        since=parse_when(since, now) if since else 0,
        until=parse_when(until, now) if until else 2**62,
        error=error,
        exhausted=exhausted,
        name=name,
        resource=resource,
        deliveries=frozenset(delivery or ()),
    )


def require_filter(selection: LetterFilter, *, everything: bool) -> None:
    """Raises InputError if a command would change every letter and `--all` was not given."""
    if selection.is_empty and not everything:
        raise InputError(
            "no filter given: select dead letters (--target, --since …), or give --all for every one"
        )

"""The filter that the options of `heliograph dead-letters` describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heliograph.operations.times import parse_span
from schemas.delivery import Exhausted, ReasonCode

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

    begin, end = parse_span(since, until, now)
    return LetterFilter(
        target=target,
        subscription=subscription,
        since=begin,
        until=end,
        error=error,
        exhausted=exhausted,
        name=name,
        resource=resource,
        deliveries=frozenset(delivery or ()),
    )

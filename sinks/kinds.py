"""Every kind of sink by name: the kinds of subscriptions' targets, and those of delivery settings."""

from __future__ import annotations

from schemas.delivery_settings import BUCKET_KIND, LOGS_KIND
from schemas.errors import InputError
from schemas.subscription import Target
from sinks import topic
from sinks.base import SinkKind
from sinks.callback import sink as callback
from sinks.function import sink as function
from sinks.logs import events as logs
from sinks.logs import executions as execution_logs
from sinks.objects import events as objects
from sinks.objects import executions as execution_objects

KINDS: dict[str, SinkKind] = {
    "callback": callback.KIND,
    "logs": logs.KIND,
    "object": objects.KIND,
    "python": function.KIND,
    "topic": topic.KIND,
}
"""Kinds that a subscription's target may have."""
ALL_KINDS: dict[str, SinkKind] = {
    **KINDS,
    BUCKET_KIND: execution_objects.KIND,
    LOGS_KIND: execution_logs.KIND,
}
"""KINDS, and the kinds to which delivery settings send execution records."""


def find_kind(name: str) -> SinkKind:
    """Returns the kind of that name. Raises InputError that lists the known kinds."""
    kind = ALL_KINDS.get(name)
    if kind is None:
        raise InputError(f"kind: {name!r} is not a kind of target; known are {', '.join(sorted(KINDS))}")
    return kind


def check_settings(target: Target) -> list[str]:
    """Returns one line `key: problem` for each invalid setting of the target, or one for an unknown kind."""
    try:
        kind = find_kind(target.kind)
    except InputError as error:
        return [str(error)]
    return kind.problems(target.settings)

"""Every kind of sink by its name: those of subscriptions' targets, and those of delivery settings."""

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
"""What a subscription's target may be."""
ALL_KINDS: dict[str, SinkKind] = {
    **KINDS,
    BUCKET_KIND: execution_objects.KIND,
    LOGS_KIND: execution_logs.KIND,
}
"""Also what delivery settings make of execution records."""


def kind_of(name: str) -> SinkKind:
    """The kind of that name. Raises InputError that lists the known."""
    kind = ALL_KINDS.get(name)
    if kind is None:
        raise InputError(f"kind: {name!r} is not a kind of target; known are {', '.join(sorted(KINDS))}")
    return kind


def check_settings(target: Target) -> list[str]:
    """One line `key: problem` for each setting of the target that cannot work; none if all can."""
    try:
        kind = kind_of(target.kind)
    except InputError as error:
        return [str(error)]
    return kind.problems(target.settings)

"""Every kind of sink by its name."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import InputError
from schemas.subscription import Target
from sinks import callback, function, logs, objects, topic
from sinks.base import SinkKind

KINDS: dict[str, SinkKind] = {
    "callback": callback.KIND,
    "logs": logs.KIND,
    "object": objects.KIND,
    "python": function.KIND,
    "topic": topic.KIND,
}


def kind_of(name: str) -> SinkKind:
    """The kind of that name. Raises InputError that lists the known."""
    kind = KINDS.get(name)
    if kind is None:
        raise InputError(f"kind: {name!r} is not a kind of target; known are {', '.join(sorted(KINDS))}")
    return kind


def check_settings(target: Target) -> list[str]:
    """One line `key: problem` for each setting of the target that cannot work; none if all can."""
    try:
        kind = kind_of(target.kind)
        kind.settings.model_validate(target.settings)
    except ValidationError as error:
        return [_line(found, target.kind) for found in error.errors(include_input=False, include_url=False)]
    except InputError as error:
        return [str(error)]
    return []


def _line(found: ErrorDetails, kind: str) -> str:
    key = ".".join(str(part) for part in found["loc"])
    match found["type"]:
        case "missing":
            problem = f"is missing; a target of kind {kind} needs it"
        case "extra_forbidden":
            known = ", ".join(KINDS[kind].settings.model_fields)
            problem = f"is no setting of kind {kind}; its settings are {known}"
        case "value_error":
            problem = str(found.get("ctx", {}).get("error", found["msg"]))
        case _:
            problem = found["msg"].replace("Input should be", "must be")
    return f"{key}: {problem}"

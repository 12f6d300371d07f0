"""Turns pydantic's errors into lines for a person. Each line names the key, the wrong value and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_EXPECTED = {
    "missing": "is missing",
    "string_type": "must be text in quotes",
    "tuple_type": 'must be a list, as in ["a", "b"]',
    "list_type": 'must be a list, as in ["a", "b"]',
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "path_type": "must be a path in quotes",
    "too_short": "must have at least one item",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def problems(error: ValidationError, model: type[BaseModel], beside: Iterable[str] = ()) -> list[str]:
    """Returns a line `key: problem` for each error. `model`: the model that was validated; its keys are suggested for
    unknown ones. `beside`: further keys that may be suggested."""
    errors, others = error.errors(), tuple(beside)
    return [f"{_key(found)}{_text(found, model, others)}" for found in errors if not _follows(found, errors)]


def without_values(error: ValidationError) -> str:
    """Returns all problems in one line without the values, which may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)


def suggestion(word: str, known: Sequence[str]) -> str:
    """Returns `, did you mean …?` if one of `known` is similar to `word`, or an empty text."""
    near = get_close_matches(word, known, n=1, cutoff=0.75)
    return f", did you mean {near[0]}?" if near else ""


def _follows(found: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """True if pydantic calls a list too short only because its items are wrong, which other errors report."""
    location = found["loc"]
    inner = (other["loc"] for other in errors if other is not found)
    return found["type"] == "too_short" and any(other[: len(location)] == location for other in inner)


def _key(found: ErrorDetails) -> str:
    """Formats the location of an error, as in `target[1].retry.tries: ` for the path target, 0, retry, tries. Leaves
    out the index of a plain value in a list, since the message shows the value."""
    parts = list(found["loc"])
    if parts and isinstance(parts[-1], int) and not isinstance(found["input"], dict):
        parts.pop()
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in parts)
    return f"{key.lstrip('.')}: " if key else ""


def _text(found: ErrorDetails, model: type[BaseModel], beside: tuple[str, ...]) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "literal_error":
        known = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return f"{found['input']!r} is not one of {known}"
    if kind == "extra_forbidden":
        return f"is not a known key{_known_keys(found['loc'], model, beside)}"
    if kind == "value_error":
        return str(context["error"])
    return _EXPECTED.get(kind, re.sub("^(Input|String) should", "must", found["msg"]))


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel], beside: tuple[str, ...]) -> str:
    owner = model
    for part in location[:-1]:
        if isinstance(part, str):
            inner = _model_in(owner.model_fields[part].annotation)
            if inner is None:
                return ""
            owner = inner
    known = sorted(owner.model_fields)
    meant = [*known, *beside] if owner is model else known
    return suggestion(str(location[-1]), meant) or f"; the known keys are {', '.join(known)}"


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Returns the model in the type of a field, alone or in a list; None for a field without a model."""
    for inner in (annotation, *get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None

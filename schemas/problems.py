"""What pydantic found wrong, as lines for a person: each names its key, what is there, and what may be."""

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
    "too_short": "must hold at least one",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def problems(error: ValidationError, model: type[BaseModel], beside: Iterable[str] = ()) -> list[str]:
    """One line `key: what is wrong with it` for each problem. `model`: what was validated, for its keys; `beside`: keys
    that may stand beside those, and may have been meant."""
    errors, others = error.errors(), tuple(beside)
    return [f"{_key(found)}{_text(found, model, others)}" for found in errors if not _follows(found, errors)]


def without_values(error: ValidationError) -> str:
    """All problems in one line, without what was found there, which may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)


def suggestion(word: str, known: Sequence[str]) -> str:
    """`, did you mean …?` where one of `known` is near; otherwise nothing."""
    near = get_close_matches(word, known, n=1, cutoff=0.75)
    return f", did you mean {near[0]}?" if near else ""


def _follows(found: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """A list is too short for pydantic also when what it holds is wrong, which is reported already."""
    location = found["loc"]
    inner = (other["loc"] for other in errors if other is not found)
    return found["type"] == "too_short" and any(other[: len(location)] == location for other in inner)


def _key(found: ErrorDetails) -> str:
    """`target.0.retry.tries` as `target[1].retry.tries: `; the place of a value in a list is left out, for it is told
    by itself, that of a table is not."""
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
    return suggestion(str(location[-1]), meant) or f"; known are {', '.join(known)}"


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that a field holds, alone or in a list."""
    for inner in (annotation, *get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None

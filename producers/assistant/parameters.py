"""`{{name}}` in a command: parameters that come with the request, and secrets that only the agent knows.

Source: the user manual of ECS, custom parameters. What stands between braces and is no name, as `{{.State}}`, is left
alone; so is what a value itself holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.errors import InputError

MOST_PARAMETERS = 20

_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_is_name = re.compile(_NAME).fullmatch
_PLACE = re.compile(rf"\{{\{{(secret:)?({_NAME})\}}\}}")


def check_parameters(content: str, parameters: Mapping[str, str]) -> None:
    """Whether a command gets exactly what it asks for; InputError names what is wrong."""
    if len(parameters) > MOST_PARAMETERS:
        raise InputError(f"parameters: {len(parameters)} of them; at most {MOST_PARAMETERS}")
    for name in parameters:
        check_name("parameter", name)
    asked = {name for secret, name in _PLACE.findall(content) if not secret}
    if missing := sorted(asked - parameters.keys()):
        raise InputError(f"parameter {missing[0]!r}: the command asks for it; give {missing[0]}=VALUE")
    if unknown := sorted(parameters.keys() - asked):
        raise InputError(f"parameter {unknown[0]!r}: the command has no {{{{{unknown[0]}}}}}")


def check_name(what: str, name: str) -> None:
    """Whether `{{name}}` and `{{secret:name}}` can stand for it. Raises InputError."""
    if not _is_name(name):
        raise InputError(
            f"{what} {name!r}: a name is a letter or _, then letters, digits, _ and -, at most 64"
        )


def secret_names(content: str) -> frozenset[str]:
    """Names of the secrets that a command asks for."""
    return frozenset(name for secret, name in _PLACE.findall(content) if secret)


def fill_places(content: str, parameters: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """The script to run: every place filled. What a value holds is not looked at again."""
    return _PLACE.sub(lambda place: (secrets if place[1] else parameters)[place[2]], content)

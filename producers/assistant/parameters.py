"""Placeholders `{{name}}` and `{{secret:name}}` in a command: parameters of the request, and secrets of the agent.

Source: the user manual of ECS, custom parameters. Braces around anything but a name, as in `{{.State}}`, are not
a placeholder, and placeholders inside a value are not filled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.errors import InputError

MOST_PARAMETERS = 20

_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_is_name = re.compile(_NAME).fullmatch
_PLACEHOLDER = re.compile(rf"\{{\{{(secret:)?({_NAME})\}}\}}")


def check_parameters(content: str, parameters: Mapping[str, str]) -> None:
    """Checks that `parameters` are exactly the parameters that the command uses. Raises InputError."""
    if len(parameters) > MOST_PARAMETERS:
        raise InputError(f"parameters: {len(parameters)} are given; at most {MOST_PARAMETERS} are accepted")
    for name in parameters:
        check_name("parameter", name)
    used = {name for secret, name in _PLACEHOLDER.findall(content) if not secret}
    if missing := sorted(used - parameters.keys()):
        raise InputError(f"parameter {missing[0]!r}: the command uses it; give {missing[0]}=VALUE")
    if unknown := sorted(parameters.keys() - used):
        raise InputError(
            f"parameter {unknown[0]!r}: the command has no {{{{{unknown[0]}}}}}; leave the parameter out"
        )


def check_name(what: str, name: str) -> None:
    """Checks that `name` is valid in `{{name}}` and `{{secret:name}}`. Raises InputError, which calls the name
    `what`."""
    if not _is_name(name):
        raise InputError(
            f"{what} {name!r}: is not a name; write a letter or _, then letters, digits, _ and -, at most 64 in all"
        )


def secret_names(content: str) -> frozenset[str]:
    """Returns the names of the secrets that a command uses."""
    return frozenset(name for secret, name in _PLACEHOLDER.findall(content) if secret)


def fill_placeholders(content: str, parameters: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """Returns the script with all placeholders filled. Placeholders inside a value are not filled."""
    return _PLACEHOLDER.sub(lambda found: (secrets if found[1] else parameters)[found[2]], content)

"""Options that several commands share: by themselves, or as the fields of one form."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, TypeVar, get_type_hints

import msgspec
import typer

Cluster = Annotated[
    str, typer.Option("--bus", metavar="URL", help="A Kafka cluster to run on, kafka://host:port.")
]
Store = Annotated[
    str, typer.Option("--archive", metavar="URL", help="A store for the archive, s3://bucket/prefix?….")
]

Form = TypeVar("Form", bound=msgspec.Struct)


def takes(form: type[Form]) -> Callable[[Callable[Concatenate[Form, ...], None]], Callable[..., None]]:
    """Make a command of a function whose first parameter is a form: each field becomes an option, annotated as typer
    wants it; further parameters stay as they are. Those without a default come first, then the form's."""
    hints = get_type_hints(form, include_extras=True)
    fields = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in msgspec.structs.fields(form)
    ]

    def made(function: Callable[Concatenate[Form, ...], None]) -> Callable[..., None]:
        own = list(signature(function, eval_str=True).parameters.values())[1:]

        @wraps(function)
        def command(**given: Any) -> None:  # noqa: ANN401 - what typer read, by the annotations
            filled = form(**{field.name: given.pop(field.name) for field in fields})
            function(filled, **given)

        every = [*fields, *(one.replace(kind=Parameter.KEYWORD_ONLY) for one in own)]
        parameters = sorted(every, key=lambda one: one.default is not Parameter.empty)
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return made

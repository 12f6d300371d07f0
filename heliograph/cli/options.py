"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, TypeVar, get_type_hints

import msgspec
import typer

from schemas.delivery import Exhausted, ReasonCode

Cluster = Annotated[
    str, typer.Option("--bus", metavar="URL", help="Kafka cluster to run on: kafka://host:port.")
]
Store = Annotated[str, typer.Option("--archive", metavar="URL", help="Archive store: s3://bucket/prefix?….")]

TargetId = Annotated[str, typer.Option("--target", metavar="ID", help="Only this target.")]
SubscriptionName = Annotated[
    str, typer.Option("--subscription", metavar="NAME", help="Only this subscription.")
]
EventName = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Only events of this name; * matches any characters.")
]
ResourceId = Annotated[
    str, typer.Option("--resource", metavar="ID", help="Only events of this resource; id or ARN.")
]
Since = Annotated[
    str,
    typer.Option(
        "--since", metavar="TIME", help="At or after this time: 2h (ago), 2026-01-31, 2026-01-31T12:00:00Z."
    ),
]
Until = Annotated[
    str, typer.Option("--until", metavar="TIME", help="Before this time; same forms as --since.")
]
ErrorReason = Annotated[
    ReasonCode | None, typer.Option("--error", help="Only if the last attempt failed for this reason.")
]
ExhaustedLimit = Annotated[
    Exhausted | None, typer.Option("--exhausted", help="Only if this limit was reached.")
]
DeliveryIds = Annotated[
    list[str] | None,
    typer.Option("--delivery", metavar="ID", help="Only the delivery with this id; repeatable."),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Change every dead letter; required if no filter is given.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

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

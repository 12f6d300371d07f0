"""Options that several commands share, each defined once."""

from __future__ import annotations

from typing import Annotated

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

"""`heliograph archive compact`, `retention` and `erase`: an archive that stays small, and lawful."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.output import Json, note, open_deployment, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.app.deployment import Deployment

Pattern = Annotated[str | None, typer.Argument(help="A topic or `*` pattern; all without one.")]
Grace = Annotated[
    str,
    typer.Option(
        "--grace", metavar="TIME", help="How long what is not needed stays, for readers that are on it (24h)."
    ),
]


def register(archive: typer.Typer) -> None:
    """Add the commands below `archive`."""
    archive.command()(compact)
    archive.command()(retention)
    archive.command()(erase)


def compact(
    topic: Pattern = None,
    closed_after: Annotated[
        str,
        typer.Option(
            "--closed-after", metavar="TIME", help="How long after its end a day (UTC) is closed (6h)."
        ),
    ] = "6h",
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Merge the segments of closed days into Parquet.

    Those that were merged a grace period ago are removed.
    """
    from archiver.maintain.compaction import CompactionPolicy
    from archiver.maintain.compaction import compact as compact_topic
    from archiver.read.survey import topics_of

    with open_deployment() as deployment:
        policy = CompactionPolicy(closed_after=_span("--closed-after", closed_after))
        graced = _span("--grace", grace)
        topics = topics_of(deployment.archive, topic)
        days = (
            {
                "topic": done.topic,
                "day": done.day,
                "generation": done.generation,
                "segments": done.segments,
                "records": done.records,
                "files": done.files,
                "before": done.size_before,
                "bytes": done.size,
            }
            for name in topics
            for done in compact_topic(deployment.archive, deployment.clock, name, policy)
        )
        columns = ("topic", "day", "generation", "segments", "records", "files", "before", "bytes")
        show(days, columns, as_json=as_json)
        _remove(deployment, topics, graced)


def retention(
    topic: Annotated[str, typer.Argument(help="A topic or `*` pattern.")],
    keep: Annotated[str, typer.Option("--keep", metavar="TIME", help="What is kept: 365d, or since a date.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without it only say what would go.")] = False,
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Remove what is wholly older from the beginnings of chains.

    The rest stays verifiable.
    """
    from archiver.maintain.retention import expired, retire
    from archiver.read.survey import topics_of
    from schemas.times import parse_when

    with open_deployment() as deployment:
        archive, clock = deployment.archive, deployment.clock
        before, graced = parse_when(keep, clock.now()), _span("--grace", grace)
        topics = topics_of(archive, topic)
        found = (
            retire(archive, clock, name, before) if apply else expired(archive, name, before)
            for name in topics
        )
        rows = (
            {"topic": one.topic, "chains": one.chains, "segments": one.segments, "records": one.records}
            for one in found
        )
        show(rows, ("topic", "chains", "segments", "records"), as_json=as_json)
        if apply:
            _remove(deployment, topics, graced)
        else:
            note("nothing was removed: add --apply to do it")


def erase(
    topic: Pattern = None,
    resource: Annotated[
        str, typer.Option("--resource", metavar="ARN", help="Records that name this resource.")
    ] = "",
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Records that name this user.")] = "",
    reason: Annotated[
        str, typer.Option("--reason", help="Why, kept in the archive for ever: without personal data.")
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without it only say what would go.")] = False,
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Erase what compacted records hold about a resource or a user.

    The chain stays verifiable.
    """
    from archiver.maintain.erasure import about_resource, about_user, erasable
    from archiver.maintain.erasure import erase as erase_topic
    from archiver.read.survey import topics_of

    if bool(resource) == bool(user):
        raise InputError("archive erase: give either --resource ARN or --user ID")
    if apply and not reason:
        raise InputError("--reason: say why, in words that name nobody; the archive keeps it")
    wanted = about_resource(resource) if resource else about_user(user)
    with open_deployment() as deployment:
        archive, clock, graced = deployment.archive, deployment.clock, _span("--grace", grace)
        topics = topics_of(archive, topic)
        found = [
            erase_topic(archive, clock, name, wanted, reason) if apply else erasable(archive, name, wanted)
            for name in topics
        ]
        rows = (
            {
                "topic": one.topic,
                "records": one.records,
                "segments": one.segments,
                "files": one.files,
                "waiting": one.waiting,
            }
            for one in found
        )
        show(rows, ("topic", "records", "segments", "files", "waiting"), as_json=as_json)
        if apply:
            _remove(deployment, topics, graced)
        else:
            note("nothing was erased: add --apply to do it")
        if any(one.waiting for one in found):
            note(
                "waiting: records not compacted yet, or of the last segment of a chain; compact and erase again"
            )


def _remove(deployment: Deployment, topics: Sequence[str], grace: int) -> None:
    from archiver.maintain.removal import Removed, remove

    removed = sum(
        (remove(deployment.archive, name, deployment.clock.now(), grace) for name in topics), Removed()
    )
    gone = removed.segments + removed.files + removed.orphans
    note(f"{gone} objects removed; {removed.waiting} go once their grace is over, when this is run again")


def _span(option: str, text: str) -> int:
    """A time like 6h, in milliseconds."""
    from schemas.times import parse_when

    if text == "0":
        return 0
    try:
        span = -parse_when(text, 0)
    except InputError:
        span = -1
    if span < 0:
        raise InputError(f"{option} {text!r}: expected a span of time, as 6h or 2d")
    return span

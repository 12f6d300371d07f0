"""`heliograph archive compact`, `retention` and `erase`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.output import Json, note, open_deployment, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.app.deployment import Deployment

Pattern = Annotated[str | None, typer.Argument(help="A topic or `*` pattern; default all.")]
Grace = Annotated[
    str,
    typer.Option(
        "--grace",
        metavar="TIME",
        help="Time for which objects without use stay, for readers that still need them; default 24h.",
        show_default=False,
    ),
]


def register(archive: typer.Typer) -> None:
    """Adds the commands below `archive`."""
    archive.command()(compact)
    archive.command()(retention)
    archive.command()(erase)


def compact(
    topic: Pattern = None,
    closed_after: Annotated[
        str,
        typer.Option(
            "--closed-after",
            metavar="TIME",
            help="Time between the end of a day (UTC) and its compaction; default 6h.",
            show_default=False,
        ),
    ] = "6h",
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Merge the segments of closed days into Parquet.

    Removes the segments that were merged at least --grace ago.
    """
    from heliograph.operations import archive

    with open_deployment() as deployment:
        closed, graced = _span("--closed-after", closed_after), _span("--grace", grace)
        topics = archive.find_topics(deployment, topic)
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
            for one in topics
            for done in archive.compact(deployment, one, closed)
        )
        columns = ("topic", "day", "generation", "segments", "records", "files", "before", "bytes")
        show(days, columns, as_json=as_json)
        _remove(deployment, topics, graced)


def retention(
    topic: Annotated[str, typer.Argument(help="A topic or `*` pattern.")],
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="Age up to which records stay (365d), or a date.")
    ],
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the archive; without it, only print the counts.")
    ] = False,
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Remove old segments from the beginnings of chains.

    Removes a segment only if all its records are too old. The rest of the chain can still be verified.
    """
    from heliograph.operations import archive
    from schemas.times import parse_when

    with open_deployment() as deployment:
        before, graced = parse_when(keep, deployment.clock.now()), _span("--grace", grace)
        topics = archive.find_topics(deployment, topic)
        rows = (
            {"topic": one.topic, "chains": one.chains, "segments": one.segments, "records": one.records}
            for one in (archive.retire(deployment, each, before, dry_run=not apply) for each in topics)
        )
        show(rows, ("topic", "chains", "segments", "records"), as_json=as_json)
        if apply:
            _remove(deployment, topics, graced)
        else:
            note("nothing was removed; add --apply to remove the segments")


def erase(
    topic: Pattern = None,
    resource: Annotated[
        str, typer.Option("--resource", metavar="ARN", help="Only records that name this resource.")
    ] = "",
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Only records that name this user.")] = "",
    reason: Annotated[
        str, typer.Option("--reason", help="Reason, without personal data: the archive keeps it for ever.")
    ] = "",
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the archive; without it, only print the counts.")
    ] = False,
    grace: Grace = "24h",
    as_json: Json = False,
) -> None:
    """Erase the contents of compacted records about a resource or a user.

    The chain can still be verified.
    """
    from heliograph.operations import archive

    with open_deployment() as deployment:
        graced = _span("--grace", grace)
        topics = archive.find_topics(deployment, topic)
        found = archive.erase(
            deployment, topics, resource=resource, user=user, reason=reason, dry_run=not apply
        )
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
            note("nothing was erased; add --apply to erase the contents")
        if any(one.waiting for one in found):
            note(
                "waiting: records that are not compacted yet, or in the last segment of a chain; compact and erase again later"
            )


def _remove(deployment: Deployment, topics: Sequence[str], grace: int) -> None:
    from heliograph.operations.archive import remove_unneeded

    removed = remove_unneeded(deployment, topics, grace)
    gone = removed.segments + removed.files + removed.orphans
    note(f"{gone} objects removed; {removed.waiting} wait for the end of --grace: run this again then")


def _span(option: str, text: str) -> int:
    """Reads a span of time such as 6h, in milliseconds. Raises InputError."""
    from schemas.times import read_duration

    if text == "0":
        return 0
    try:
        return round(read_duration(text.strip()) * 1000)
    except InputError:
        raise InputError(f"{option} {text!r}: expected a span of time, as 6h or 2d") from None

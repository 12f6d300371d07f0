"""`heliograph archive …` and `query`: the archive, read from the object store alone."""

from __future__ import annotations

from typing import Annotated

import typer

from heliograph.cli import upkeep
from heliograph.cli.inspect import record_row
from heliograph.cli.output import Json, document, moment, note, open_deployment, say, show, visible
from schemas.errors import InputError

app = typer.Typer(
    help="The archive: list, read, verify and compact it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Topic = Annotated[str | None, typer.Argument(help="A topic; default all.")]
Since = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only records at or after this time: 2h (ago), 2026-01-31, 2026-01-31T12:00:00Z.",
    ),
]
Until = Annotated[
    str, typer.Option("--until", metavar="TIME", help="Only records before this time; same forms as --since.")
]


def register(root: typer.Typer) -> None:
    """Adds the commands at the root, and those that maintain the archive."""
    root.command()(query)
    upkeep.register(app)


@app.command("list")
def list_segments(topic: Topic = None, as_json: Json = False) -> None:
    """List segments with their offsets, times and sizes."""
    from heliograph.operations import archive

    with open_deployment() as deployment:
        rows = (
            {
                "key": info.key,
                "topic": info.topic,
                "partition": info.partition,
                "epoch": info.epoch,
                "expected": info.expected_offset,
                "next": info.read_header().next_offset,
                "records": info.read_header().count,
                "from": _moment(info.read_header().earliest_timestamp),
                "to": _moment(info.read_header().latest_timestamp),
                "bytes": info.size,
                "file": info.file.key if info.file else "",
            }
            for info in archive.list_segments(deployment, topic)
        )
        show(
            rows,
            ("topic", "partition", "epoch", "expected", "next", "records", "from", "to", "bytes", "file"),
            as_json=as_json,
        )


@app.command()
def read(topic: Topic = None, since: Since = "", until: Until = "", as_json: Json = False) -> None:
    """Print archived records, each partition in its order."""
    from heliograph.operations.archive import read_records
    from schemas.times import parse_when

    with open_deployment() as deployment:
        now = deployment.clock.now()
        records = read_records(
            deployment,
            topic,
            since=parse_when(since, now) if since else None,
            until=parse_when(until, now) if until else None,
        )
        rows = map(record_row, records)
        if as_json:
            show(rows, (), as_json=True)
            return
        for row in rows:
            place = f"{row['topic']}:{row['partition']}:{row['offset']}"
            say(visible(f"{place}  {moment(row['timestamp'])}  {row['value']}"))


@app.command()
def verify(
    topic: Topic = None,
    expect_head: Annotated[
        list[str] | None,
        typer.Option(
            "--expect-head",
            metavar="KEY=SHA256",
            help="Head that `archive heads` printed earlier; fails if the archive lacks it now; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every segment and chain.

    Needs nothing but the archive. If a segment or chain is broken, prints the first problem; exit status 1.
    """
    from heliograph.operations.archive import verify_archive

    with open_deployment() as deployment:
        report = verify_archive(deployment, topic, dict(map(_read_head, expect_head or [])))
    if as_json:
        document(report.row(), as_json=True)
    else:
        say(report.line())
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def heads(as_json: Json = False) -> None:
    """Print the head of every chain, those of the manifests included.

    Keep the output outside the archive, for `archive verify --expect-head`.
    """
    from heliograph.operations.archive import read_heads

    with open_deployment() as deployment:
        found = list(read_heads(deployment))
    if as_json:
        show((head._asdict() for head in found), (), as_json=True)
        return
    for head in found:
        say(f"{head.key}={head.sha256}")


@app.command("new-epoch")
def new_epoch(
    topic: Annotated[str, typer.Argument(help="A topic or `*` pattern; '*' means all archived topics.")],
) -> None:
    """Begin new epochs after the topics of the bus were lost or created again."""
    from heliograph.operations.archive import begin_epoch, find_topics

    with open_deployment() as deployment:
        for one in find_topics(deployment, topic):
            for key in begin_epoch(deployment, one):
                say(key)


def query(
    sql: Annotated[
        str, typer.Argument(help="One SQL statement over events, verdicts, deliveries, rejects, logs …")
    ],
    as_json: Json = False,
) -> None:
    """Answer SQL over the archive and the log store."""
    from heliograph.operations import archive

    with open_deployment() as deployment:
        result = archive.query(deployment, sql)
        count = show(result.rows(), result.columns, as_json=as_json)
    if not as_json:
        note(f"{count} rows")


def _moment(milliseconds: int | None) -> str:
    return "" if milliseconds is None else moment(milliseconds)


def _read_head(text: str) -> tuple[str, str]:
    key, equals, digest = text.rpartition("=")
    if not equals or len(digest) != 64:
        raise InputError(f"--expect-head {text!r}: expected KEY=SHA256, as `heliograph archive heads` prints")
    return key, digest

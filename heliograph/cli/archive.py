"""`heliograph archive …` and `query`: what was kept, read from the object store alone."""

from __future__ import annotations

from typing import Annotated

import typer

from heliograph.cli import upkeep
from heliograph.cli.inspect import record_row
from heliograph.cli.output import Json, document, moment, note, open_deployment, say, show, visible
from schemas.errors import InputError

app = typer.Typer(
    help="The archive: list, read, verify and compact what was kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Topic = Annotated[str | None, typer.Argument(help="A topic; all without one.")]
Since = Annotated[str, typer.Option("--since", help="A time (2h, 2026-01-31, 2026-01-31T12:00:00Z).")]
Until = Annotated[str, typer.Option("--until", help="A time; records before it.")]


def register(root: typer.Typer) -> None:
    """Add the commands that stand at the root, and those of upkeep."""
    root.command()(query)
    upkeep.register(app)


@app.command("list")
def list_segments(topic: Topic = None, as_json: Json = False) -> None:
    """List segments with their offsets, times and sizes."""
    from archiver.read.reader import list_segments

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
            for info in list_segments(deployment.archive, topic)
        )
        show(
            rows,
            ("topic", "partition", "epoch", "expected", "next", "records", "from", "to", "bytes", "file"),
            as_json=as_json,
        )


@app.command()
def read(topic: Topic = None, since: Since = "", until: Until = "", as_json: Json = False) -> None:
    """Print archived records, each partition in its order."""
    from archiver.read.reader import read_records
    from schemas.times import parse_when

    with open_deployment() as deployment:
        now = deployment.clock.now()
        records = read_records(
            deployment.archive,
            [topic] if topic else None,
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
            "--expect-head", metavar="KEY=SHA256", help="A head noted earlier: finds a tail cut off since."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every segment and chain.

    Needs nothing but the archive; exit status 1 names the first thing wrong.
    """
    from archiver.read.verify import verify

    with open_deployment() as deployment:
        report = verify(
            deployment.archive, topic, expect_head=dict(_head(text) for text in expect_head or [])
        )
    if as_json:
        document(report.row(), as_json=True)
    else:
        say(report.line())
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def heads(as_json: Json = False) -> None:
    """Print the head of every chain.

    Those of the topics' manifests too. Keep them elsewhere, for `verify --expect-head`.
    """
    from archiver.read.verify import heads, manifest_heads

    with open_deployment() as deployment:
        archive = deployment.archive
        rows = [{"key": head.key, "sha256": head.object_sha256} for head in heads(archive)]
        rows += [{"key": key, "sha256": sha256} for key, sha256 in manifest_heads(archive)]
        if as_json:
            show(rows, (), as_json=True)
        else:
            for row in rows:
                say(f"{row['key']}={row['sha256']}")


@app.command("new-epoch")
def new_epoch(
    topic: Annotated[str, typer.Argument(help="A topic, or a pattern: '*' for all that is archived.")],
) -> None:
    """Begin new chains after a log was lost or made anew."""
    from archiver.maintain.epochs import begin_epoch
    from archiver.read.reader import list_segments

    with open_deployment() as deployment:
        store = deployment.archive
        found = sorted({info.topic for info in list_segments(store, topic)}) if "*" in topic else [topic]
        for one in found:
            for key in begin_epoch(store, deployment.bus, one):
                say(key)


def query(
    sql: Annotated[
        str, typer.Argument(help="One statement over events, verdicts, deliveries, rejects, logs …")
    ],
    as_json: Json = False,
) -> None:
    """Answer SQL over the archive and the log store."""
    from archiver.read.query import query as answer

    with open_deployment() as deployment:
        config = deployment.config
        result = answer(
            deployment.archive,
            sql,
            cache=config.home / "cache" / "query",
            logs=config.logs_folder,
            bus=lambda: deployment.bus,
        )
        count = show(result.rows(), result.columns, as_json=as_json)
    if not as_json:
        note(f"{count} rows")


def _moment(milliseconds: int | None) -> str:
    return "" if milliseconds is None else moment(milliseconds)


def _head(text: str) -> tuple[str, str]:
    key, equals, digest = text.rpartition("=")
    if not equals or len(digest) != 64:
        raise InputError(f"--expect-head {text!r}: expected KEY=SHA256, as `heliograph archive heads` prints")
    return key, digest

"""`heliograph assistant delivery …`: the stores that receive the execution records of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, note, open_deployment, say, show, visible
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.operations.delivery_settings import RegionDelivery
    from schemas.delivery_settings import DeliverySettings

app = typer.Typer(
    help="Delivery of execution records: the stores of each region.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Region = Annotated[str, typer.Argument(help="Id of the region, such as cn-hangzhou.")]
Bucket = Annotated[
    str,
    typer.Option(
        "--bucket",
        metavar="URL",
        help="URL of the bucket: s3://bucket?… or file:///path; none removes it.",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        help="Root directory in the bucket, at most 254 characters; default the root of the bucket.",
    ),
]
Encryption = Annotated[
    str,
    typer.Option(
        "--encryption",
        help="Encryption: inherit (the bucket's own), AES256, kms or kms:KEY; default inherit.",
    ),
]
Layout = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="NAME=VALUE",
        help="Layout of objects: record={Repeats}.json, file=decoded or file=as-sent; repeatable.",
    ),
]
Since = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Deliver also the records at or after this time: 2h (ago), 2026-01-31.",
    ),
]
NONE = "none"
_COLUMNS = ("region", "delivery", "bucket", "prefix", "encryption", "project", "logstore", "records")
_LAYOUT = {"record": "record_name", "file": "file_content"}


@app.command("set")
def set_delivery(
    region: Region,
    bucket: Bucket = "",
    prefix: Prefix = None,
    encryption: Encryption = "",
    layout: Layout = None,
    project: Annotated[str, typer.Option("--project", help="Project of the log store.")] = "",
    logstore: Annotated[
        str, typer.Option("--logstore", help="Logstore of the project; none removes the log store.")
    ] = "",
    since: Since = "",
) -> None:
    """Set the stores of a region's records: a bucket, a log store or both.

    Settings without an option stay as they are; delivery is switched on.
    """
    from heliograph.operations.delivery_settings import configure
    from schemas.times import parse_when

    _check_none("--bucket", bucket, {"--prefix": prefix, "--encryption": encryption, "--layout": layout})
    _check_none("--logstore", logstore, {"--project": project})
    with open_deployment() as deployment:
        began = parse_when(since, deployment.clock.now()) if since else None
        done = configure(
            deployment,
            region,
            bucket=None if bucket == NONE else _read_bucket(bucket, prefix, encryption, layout or ()),
            logs=None if logstore == NONE else _given(project=project or None, logstore=logstore or None),
            since=began,
        )
    say(f"{region}: {_where(done.settings) if done.changed else 'unchanged'}")
    if began is not None:
        say(f"{done.delivered} earlier records are on their way")


@app.command()
def off(region: Region) -> None:
    """Switch delivery off and keep the settings. Records that are on their way still arrive."""
    _switch(region, on=False)


@app.command()
def on(region: Region) -> None:
    """Switch delivery on again. `set --since` delivers the records that came meanwhile."""
    _switch(region, on=True)


@app.command("show")
def show_delivery(
    region: Annotated[str, typer.Argument(help="A region; default all.")] = "", as_json: Json = False
) -> None:
    """Show the settings of regions, and the number of their records."""
    from heliograph.operations.delivery_settings import list_regions

    with open_deployment() as deployment:
        found = list_regions(deployment.bus, region)
    show(map(_row, found), _COLUMNS, as_json=as_json)
    for one in (one for one in found if one.settings is None):
        note(
            f"{visible(one.region)}: no delivery settings; its records stay in the topic `executions` and in the archive"
        )


@app.command("remove")
def remove_delivery(
    regions: Annotated[list[str], typer.Argument(metavar="REGION...", help="Ids of the regions.")],
) -> None:
    """Remove the settings of regions that are switched off.

    Removes all of them or none. Fails while delivery is on, or while records are still being delivered.
    """
    from heliograph.operations.delivery_settings import remove

    with open_deployment() as deployment:
        remove(deployment.bus, regions)
    say(f"{', '.join(regions)}: removed")


def _switch(region: str, *, on: bool) -> None:
    from heliograph.operations.delivery_settings import switch

    with open_deployment() as deployment:
        switch(deployment.bus, region, on=on)
    say(f"{region}: {'on' if on else 'off'}")


def _check_none(option: str, value: str, others: Mapping[str, object]) -> None:
    """Raises InputError if further options are given for a store that is removed."""
    given = [other for other, said in others.items() if said]
    if value == NONE and given:
        raise InputError(f"{option} {NONE}: leave out {', '.join(given)}")


def _read_bucket(url: str, prefix: str | None, encryption: str, layout: Sequence[str]) -> dict[str, str]:
    """Reads the options of the bucket, as fields of its settings. A new encryption replaces the key too."""
    asked, _, key = encryption.partition(":")
    said = _given(
        url=url or None, prefix=prefix, encryption=asked or None, kms_key=key if encryption else None
    )
    for word in layout:
        name, _, value = word.partition("=")
        if name not in _LAYOUT or not value:
            raise InputError(
                f"--layout {word!r}: expected record={{Repeats}}.json, file=decoded or file=as-sent"
            )
        said[_LAYOUT[name]] = value
    return said


def _given(**said: str | None) -> dict[str, str]:
    return {name: value for name, value in said.items() if value is not None}


def _where(settings: DeliverySettings) -> str:
    stores: list[str] = []
    if settings.bucket:
        stores.append(f"{_shown(settings.bucket.url)} {settings.bucket.prefix}".rstrip())
    if settings.logs:
        stores.append(f"log store {settings.logs.project}/{settings.logs.logstore}")
    return f"delivery to {' and '.join(stores)}"


def _row(delivery: RegionDelivery) -> dict[str, Any]:
    region, settings, records = delivery
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
    row |= {"region": region, "records": records, "delivery": "none"}
    if settings:
        row["delivery"] = "on" if settings.on else "off"
        if settings.bucket:
            bucket = settings.bucket
            row |= {"bucket": _shown(bucket.url), "prefix": bucket.prefix, "encryption": bucket.encryption}
            row |= {"record_name": bucket.record_name, "file_content": bucket.file_content}
        if settings.logs:
            row |= {"project": settings.logs.project, "logstore": settings.logs.logstore}
    return row


def _shown(url: str) -> str:
    """Returns a store's URL without its parameters, which are long and may hold references to secrets."""
    return url.partition("?")[0]

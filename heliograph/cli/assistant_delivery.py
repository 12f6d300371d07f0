"""`heliograph assistant delivery …`: where the execution records of a region go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, note, open_deployment, say, show, visible
from schemas.errors import InputError, NotFound

if TYPE_CHECKING:
    from schemas.delivery_settings import DeliverySettings

app = typer.Typer(
    help="Delivery of execution records: which region's go where.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Region = Annotated[str, typer.Argument(help="The region, as cn-hangzhou.")]
NONE = "none"
_COLUMNS = ("region", "delivery", "bucket", "prefix", "encryption", "project", "logstore", "records")
_LAYOUT = {"record": "record_name", "file": "file_content"}


@app.command("set")
def set_delivery(
    region: Region,
    bucket: Annotated[
        str, typer.Option("--bucket", metavar="URL", help="s3://bucket?…, file:///path, or none.")
    ] = "",
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Root directory in it, at most 254 characters.")
    ] = None,
    encryption: Annotated[
        str, typer.Option("--encryption", help="inherit (the bucket's own), AES256, kms or kms:KEY.")
    ] = "",
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--layout", metavar="NAME=VALUE", help="record={Repeats}.json, file=decoded or as-sent."
        ),
    ] = None,
    project: Annotated[str, typer.Option("--project", help="Project of the log store.")] = "",
    logstore: Annotated[str, typer.Option("--logstore", help="Logstore in it, or none.")] = "",
    since: Annotated[
        str,
        typer.Option("--since", metavar="TIME", help="Deliver also what came since then (2h, 2026-01-31)."),
    ] = "",
) -> None:
    """Set where the records of a region go: a bucket, a log store or both.

    What is not named stays as it is; delivery is switched on.
    """
    from heliograph.operations.delivery_settings import current, put
    from heliograph.operations.executions import deliver_since
    from schemas.times import parse_when

    _check_none("--bucket", bucket, {"--prefix": prefix, "--encryption": encryption, "--layout": layout})
    _check_none("--logstore", logstore, {"--project": project})
    changes = {
        "bucket": None if bucket == NONE else _bucket(bucket, prefix, encryption, layout or ()),
        "logs": None if logstore == NONE else _given(project=project or None, logstore=logstore or None),
    }
    with open_deployment() as deployment:
        began = parse_when(since, deployment.clock.now()) if since else None
        known = current(deployment.bus).read_settings().get(region)
        settings = _changed(region, known, changes)
        if settings == known:
            say(f"{region}: unchanged")
        else:
            put(deployment.bus, settings)
            say(f"{region}: {_where(settings)}")
        if began is not None:
            count = deliver_since(deployment.bus, deployment.archive, settings, began)
            say(f"{count} records that came before are on their way")


@app.command()
def off(region: Region) -> None:
    """Switch delivery off, and keep the settings. What is on its way still arrives."""
    _switch(region, on=False)


@app.command()
def on(region: Region) -> None:
    """Switch delivery on again. `set --since` delivers what came meanwhile."""
    _switch(region, on=True)


@app.command("show")
def show_delivery(
    region: Annotated[str, typer.Argument(help="One region; all without one.")] = "", as_json: Json = False
) -> None:
    """Show the settings of regions, and how many records are there."""
    from heliograph.operations.delivery_settings import current
    from heliograph.operations.executions import count_regions

    with open_deployment() as deployment:
        known = current(deployment.bus).read_settings()
        counts = count_regions(deployment.bus)
        if region and region not in known:
            raise NotFound(
                f"{region}: no delivery settings; its {counts[region]} records stay in the topic"
                " `executions` and in the archive"
            )
    regions = [region] if region else sorted({*known, *counts})
    show((_row(one, known.get(one), counts[one]) for one in regions), _COLUMNS, as_json=as_json)
    for one in (one for one in regions if one not in known):
        said = "no delivery settings; its records stay in the topic `executions` and in the archive"
        note(f"{visible(one)}: {said}")


@app.command("remove")
def remove_delivery(
    regions: Annotated[list[str], typer.Argument(metavar="REGION...", help="The regions.")],
) -> None:
    """Remove the settings of regions that are switched off.

    Of all that are named or of none. Refused, naming the regions, while delivery is on or records are still on their way.
    """
    from heliograph.operations.delivery_settings import remove

    with open_deployment() as deployment:
        remove(deployment.bus, regions)
    say(f"{', '.join(regions)}: removed")


def _switch(region: str, *, on: bool) -> None:
    from heliograph.operations.delivery_settings import current, put

    with open_deployment() as deployment:
        known = current(deployment.bus).read_settings()
        if region not in known:
            raise NotFound(f"{region}: no delivery settings; there are some for {', '.join(known) or 'none'}")
        put(deployment.bus, known[region].model_copy(update={"on": on}))
    say(f"{region}: {'on' if on else 'off'}")


def _check_none(option: str, value: str, others: Mapping[str, object]) -> None:
    """Nothing more is to be said of a store that is taken away. Raises InputError."""
    given = [other for other, said in others.items() if said]
    if value == NONE and given:
        raise InputError(f"{option} {NONE}: leave out {', '.join(given)}")


def _bucket(url: str, prefix: str | None, encryption: str, layout: Sequence[str]) -> dict[str, str]:
    """What was said of the bucket, by the fields' names. A new encryption is whole: its key is named with it."""
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


def _changed(
    region: str, known: DeliverySettings | None, changes: Mapping[str, Mapping[str, str] | None]
) -> DeliverySettings:
    """What is to be in force; a change of None removes a store. Raises InputError with every problem."""
    from pydantic import ValidationError

    from schemas.delivery_settings import DeliverySettings
    from schemas.problems import problems
    from sinks.kinds import check_settings

    wanted: dict[str, Any] = known.model_dump() if known else {"region": region}
    for name, said in changes.items():
        if said is None:
            wanted[name] = None
        elif said:
            wanted[name] = {**(wanted.get(name) or {}), **said}
    try:
        settings = DeliverySettings.model_validate({**wanted, "on": True})
    except ValidationError as error:
        raise InputError("\n".join(problems(error, DeliverySettings))) from None
    found = [line for target in settings.targets for line in check_settings(target)]
    if found:
        raise InputError("\n".join(found))
    return settings


def _where(settings: DeliverySettings) -> str:
    stores: list[str] = []
    if settings.bucket:
        stores.append(f"{_shown(settings.bucket.url)} {settings.bucket.prefix}".rstrip())
    if settings.logs:
        stores.append(f"log store {settings.logs.project}/{settings.logs.logstore}")
    return f"delivery to {' and '.join(stores)}"


def _row(region: str, settings: DeliverySettings | None, records: int) -> dict[str, Any]:
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
    """A store's URL without its parameters: of secrets they have only references, but they are long."""
    return url.partition("?")[0]

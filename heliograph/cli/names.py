"""`heliograph names`."""

from __future__ import annotations

from typing import Annotated

import typer

from heliograph.cli.output import Json, document, show


def complete_name(incomplete: str) -> list[str]:
    """Returns the catalogue's names with this beginning, for completion in the shell."""
    from schemas.catalogue import complete

    return list(complete(incomplete))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(names)


def names(
    name: Annotated[
        str,
        typer.Argument(
            help="A name to explain, or the first letters of names to list; default all.",
            autocompletion=complete_name,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List the catalogue's names, or explain one."""
    from schemas.catalogue import CATALOGUE, complete, lookup

    if name in CATALOGUE:
        document(lookup(name).describe(), as_json=as_json)
        return
    found = [CATALOGUE[one].describe() for one in complete(name)]
    if not found:
        lookup(name)
    show(found, ("name", "category", "event_type", "level"), as_json=as_json)

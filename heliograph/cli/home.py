"""`heliograph init`, `doctor`, `backup` and `restore`: the home of a deployment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.output import Json, note, open_deployment, say, show


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(init)
    app.command()(doctor)
    app.command()(backup)
    app.command()(restore)


def init() -> None:
    """Create the home, with a commented heliograph.toml."""
    from heliograph.operations.home import make_home

    with open_deployment() as deployment:
        made = make_home(deployment)
    say(f"wrote {made.file}" if made.written else f"{made.file} exists and was not changed")
    say(f"log id {made.log_id} at {made.bus_url}")


def doctor(as_json: Json = False) -> None:
    """Check configuration, bus, stores and targets.

    Exit status 1 if one of them does not work.
    """
    from heliograph.app import logging_setup
    from heliograph.app.config import LogSection
    from heliograph.diagnose.doctor import examine
    from heliograph.diagnose.finding import State

    logging_setup.configure(LogSection(level="error"))  # findings say it once, with the remedy
    findings = list(examine(os.environ))
    show((finding.row() for finding in findings), ("check", "state", "detail"), as_json=as_json)
    if any(finding.state is State.FAILED for finding in findings):
        raise typer.Exit(1)


def backup(to: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")]) -> None:
    """Copy the whole home while the roles run."""
    from heliograph.operations.backup import backup_home

    with open_deployment() as deployment:
        done = backup_home(deployment.config.home, to)
    say(f"{done.files} files, {done.size:,} bytes in {to}")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder that `backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a home that is not empty.")] = False,
) -> None:
    """Restore a backup as the home.

    Checks every file of the backup before it changes the home.
    """
    from heliograph.app.config import load
    from heliograph.operations.backup import restore_home

    config = load(os.environ)
    done = restore_home(source, config.home, force=force)
    note(f"{done.files} files, {done.size:,} bytes checked and restored")
    say(str(config.home))

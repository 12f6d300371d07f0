"""The command tree, and the exit status of errors."""

from __future__ import annotations

import io
import os
import sys

import typer

from heliograph.cli import (
    archive,
    assistant,
    chaos,
    dead_letters,
    deliveries,
    emit,
    events,
    home,
    inspect,
    names,
    policies,
    run,
    subscriptions,
    targets,
)
from schemas.errors import HeliographError, InputError

app = typer.Typer(
    name="heliograph",
    help="Broker of notifications: topics, subscriptions, deliveries to targets, and an archive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for module in (run, chaos, emit, names, events, inspect, archive, home, policies):
    module.register(app)
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(events.app, name="events")
app.add_typer(targets.app, name="targets")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(archive.app, name="archive")
app.add_typer(assistant.app, name="assistant")


def main() -> int:
    """Runs the command line; returns the exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except HeliographError as error:
        for line in str(error).splitlines():
            _print_error(line)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # buffered output cannot be written any more
        if not isinstance(error, BrokenPipeError):
            _print_error(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1
    return 0


def _print_error(line: str) -> None:
    sys.stderr.write(f"heliograph: {line}\n")

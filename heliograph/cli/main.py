"""The command tree, and the one place where errors become an exit status."""

from __future__ import annotations

import os
import sys

import typer

from heliograph.cli import archive, deliveries, emit, events, home, inspect, names, run, subscriptions
from schemas.errors import HeliographError, InputError

app = typer.Typer(
    name="heliograph",
    help="Notifications onto topics, through subscription filters, to their targets and into an archive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for module in (run, emit, names, inspect, archive, home):
    module.register(app)
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(events.app, name="events")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(deliveries.dead_letters, name="dead-letters")
app.add_typer(archive.app, name="archive")


def main() -> int:
    """Run the command line. Exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    try:
        app()
    except HeliographError as error:
        for line in str(error).splitlines():
            print(f"heliograph: {line}", file=sys.stderr)  # noqa: T201 - this is where errors are shown
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0

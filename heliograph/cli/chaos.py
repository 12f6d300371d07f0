"""`heliograph chaos`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from heliograph.cli.options import Cluster, Store
from heliograph.cli.output import document, note
from schemas.errors import InputError

SHOWN = 50
"""Number of findings that the table shows; `--json` prints all."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(chaos)


def chaos(
    seed: Annotated[
        int,
        typer.Option(
            "--seed", help="Number that determines the faults and their order; default 1.", show_default=False
        ),
    ] = 1,
    lasting: Annotated[
        str,
        typer.Option(
            "--for", metavar="DURATION", help="Time to run: 30s, 5m, 2h; default 5m.", show_default=False
        ),
    ] = "5m",
    kills: Annotated[
        int,
        typer.Option(
            "--kills", help="Number of kills after which to stop, instead of --for; default no limit.", min=0
        ),
    ] = 0,
    bus: Cluster = "",
    archive: Store = "",
    broker_pid: Annotated[
        int, typer.Option("--broker-pid", help="Process id of a broker that may be paused.", min=0)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Break a scratch deployment, and prove that nothing was lost.

    Exit status 1 if anything was lost, late, doubled or out of order.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from heliograph.app import logging_setup
    from heliograph.app.config import LogSection
    from heliograph.chaos.rounds import run_chaos
    from heliograph.chaos.scratch import Services

    logging_setup.configure(LogSection(level="error"))
    began = time.monotonic()
    total = run_chaos(
        Services(bus, archive, _running(broker_pid)),
        seed=seed,
        seconds=_seconds(lasting),
        kills=kills,
        tell=lambda line: note(f"{time.monotonic() - began:7.1f} s  {line}"),
    )
    row = {"seed": seed, **total.row()}
    document(row if as_json else _short(row), as_json=as_json)
    if total.findings:
        raise typer.Exit(1)


def _seconds(lasting: str) -> float:
    """Reads a duration in seconds. Raises InputError for zero."""
    from schemas.times import parse_duration

    seconds = parse_duration(lasting)
    if not seconds:
        raise InputError(f"--for {lasting}: is too short; expected a duration such as 5m")
    return seconds


def _running(broker_pid: int) -> int:
    """Returns the process id. Raises InputError for a process that cannot be paused."""
    if broker_pid:
        try:
            os.kill(broker_pid, 0)
        except OSError as error:
            raise InputError(f"--broker-pid {broker_pid}: {error.strerror}") from None
    return broker_pid


def _short(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the row as people read it: each group of figures in one line, and only the first findings."""
    wrong = [f"{one['what']}: {one['detail']}" for one in row["wrong"]]
    if len(wrong) > SHOWN:
        wrong[SHOWN:] = [f"and {len(wrong) - SHOWN} more; --json lists all"]
    return {
        **row,
        "latency_ms": _figures(row["latency_ms"]),
        "faults": _figures(row["faults"]),
        "wrong": "\n".join(wrong) or "nothing",
    }


def _figures(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items())

"""`heliograph run` and `heliograph demo`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from heliograph.cli.options import Cluster, Store
from heliograph.cli.output import note, open_deployment


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(demo)


def run(
    role: Annotated[
        list[str] | None, typer.Argument(help="router, deliverer, archiver; all without one.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Return once nothing is unread, in flight or due.")
    ] = False,
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz.")
    ] = "",
) -> None:
    """Run the roles until SIGTERM or Ctrl-C.

    Then they drain, commit and stop within seconds. Several processes on one home share the work.
    """
    from heliograph.app.gc_tuning import collect_seldom
    from heliograph.app.health import serve
    from heliograph.app.roles import roles
    from heliograph.app.runner import Runner

    with open_deployment() as deployment:
        runner = Runner(deployment.open().bus, roles(deployment, role or []))
        server = serve(metrics, runner) if metrics else None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: runner.stop())
        collect_seldom()
        runner.start()
        try:
            if until_idle:
                runner.wait_until_idle()
            else:
                runner.wait()
            failures = runner.failures()
        finally:
            drained = runner.join()
            if server is not None:
                server.shutdown()
                server.server_close()
    for name, why in failures.items():
        note(f"heliograph: {name}: {why}")
    if not drained:
        note("heliograph: stopped before everything in flight had ended; it is repeated at the next start")
    if failures:
        raise typer.Exit(1)


def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Keep running after the account.")] = False,
    events: Annotated[int, typer.Option("--events", help="How many generated events.", min=1)] = 2000,
    bus: Cluster = "",
    archive: Store = "",
) -> None:
    """Run the main job in a scratch folder, and account for it all.

    On a cluster or in a bucket it keeps to names of its own, and removes what it made.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from heliograph.demo.show import run_demo

    if not run_demo(events=events, serve=serve, bus=bus, archive=archive):
        raise typer.Exit(1)

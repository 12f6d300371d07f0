"""`heliograph run` and `heliograph demo`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from heliograph.cli.options import Cluster, Store
from heliograph.cli.output import note, open_deployment


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(run)
    app.command()(demo)


def run(
    role: Annotated[
        list[str] | None, typer.Argument(help="Roles to run: router, deliverer, archiver; default all.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop once nothing is unread, in flight or due.")
    ] = False,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="HOST:PORT",
            help="Address that serves /metrics, /healthz and /readyz; default none.",
        ),
    ] = "",
) -> None:
    """Run the roles until SIGTERM or Ctrl-C.

    The roles then drain, commit and stop within seconds. Several processes on one home share the work.
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
        note("heliograph: stopped while deliveries were in flight; the next start repeats them")
    if failures:
        raise typer.Exit(1)


def demo(
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep running after the report, until Ctrl-C.")
    ] = False,
    events: Annotated[
        int,
        typer.Option("--events", help="Number of generated events; default 2000.", min=1, show_default=False),
    ] = 2000,
    bus: Cluster = "",
    archive: Store = "",
) -> None:
    """Run all roles on sample events in a temporary folder, and account for every record.

    On a Kafka cluster or in a bucket, the demo uses names of its own and removes them at the end.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from heliograph.demo.show import run_demo

    if not run_demo(events=events, serve=serve, bus=bus, archive=archive):
        raise typer.Exit(1)

"""The demo: starts a deployment, emits events, shows the counts, and checks the run."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from archiver.read.query import query
from heliograph.app import logging_setup
from heliograph.app.config import Config, DeliverySection, LogSection
from heliograph.app.deployment import Deployment
from heliograph.app.roles import roles
from heliograph.app.runner import Runner, unfinished
from heliograph.bus.base import Bus
from heliograph.demo.account import print_account
from heliograph.demo.backends import Backends, temporary_backends
from heliograph.demo.receiver import DemoReceiver
from heliograph.demo.reconcile import Check, check_run, read_run
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.examples import EXAMPLES
from producers.stream import generate
from schemas import topics
from schemas.delivery import VerdictState
from sinks.kinds import KINDS

SEED = 2019
CHUNK = 500
REFRESH_SECONDS = 0.25
SHOWN_FINDINGS = 10
ENDINGS: Mapping[str, VerdictState | None] = {"left": VerdictState.DEAD, "unplugged": None}
"""Targets of `subscriptions.toml` whose deliveries do not end as delivered; None: they still wait for a retry."""
SQL = """
select regionId as region, count(*) as events, count(*) filter (where level = 'CRITICAL') as critical,
       min(eventTime) as first, max(eventTime) as last
from events group by all order by events desc, region
"""


def run_demo(*, events: int, serve: bool, bus: str = "", archive: str = "") -> bool:
    """Runs all roles on sample events in a temporary folder; returns True if every check held.

    `serve`: keeps running until Ctrl-C. `bus` and `archive`: URLs of a Kafka cluster and of a store to run on instead,
    under a temporary name that is removed at the end. Raises InvalidConfiguration.
    """
    console = Console()
    logging_setup.configure(LogSection(level="warning"))
    with (
        tempfile.TemporaryDirectory(prefix="heliograph-demo-") as folder,
        temporary_backends("demo", bus, archive) as backends,
        DemoReceiver() as receiver,
    ):
        config = _config(Path(folder), backends)
        with Deployment(config) as deployment:
            subscriptions = read_file(_subscriptions(receiver.url))
            apply(deployment.bus, subscriptions, KINDS)
            runner = Runner(deployment.bus, roles(deployment))
            runner.start()
            try:
                accepted = _run_job(console, deployment, runner, events)
                run = read_run(
                    deployment, receiver, subscriptions=subscriptions, endings=ENDINGS, accepted=accepted
                )
                print_account(console, deployment, run)
                console.rule("an answer in SQL: heliograph query")
                console.print(_answer(deployment))
                held = print_checks(console, check_run(run)) and not runner.failures()
                if serve:
                    _serve(console, deployment, runner)
            finally:
                runner.join()
        if backends.name:
            console.print(f"everything named {backends.name} on the cluster or in the store is removed now")
    return held


def _run_job(console: Console, deployment: Deployment, runner: Runner, count: int) -> list[bytes]:
    """Emits the events and waits until all roles are idle; returns the accepted events."""
    console.rule("emit, route, deliver, archive")
    accepted: list[bytes] = []
    with _watching(console, deployment.bus):
        edge = Edge(deployment.bus, deployment.config.events.topics)
        for chunk in _chunks(count, deployment.clock.now()):
            edge.submit(chunk)
            accepted += chunk
        runner.wait_until_idle()
    for role, why in runner.failures().items():
        console.print(f"[red]{role}: {why}")
    return accepted


def _config(home: Path, backends: Backends) -> Config:
    return Config(
        home=home,
        bus=backends.bus,
        archive=backends.archive,
        delivery=DeliverySection(
            objects=backends.objects,
            allow_networks=(ip_network("127.0.0.0/8"),),
            function_modules=("demo_function",),
            function_path=Path(str(files("heliograph.demo") / "functions")),
        ),
    )


def _subscriptions(url: str) -> str:
    return (files("heliograph.demo") / "subscriptions.toml").read_text().replace("RECEIVER", url)


def _chunks(count: int, now: int) -> Iterator[list[bytes]]:
    """Yields the examples, then a generated stream, in chunks."""
    yield list(EXAMPLES)
    chunk: list[bytes] = []
    for value in generate(SEED, count, now):
        chunk.append(value)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextmanager
def _watching(console: Console, bus: Bus) -> Generator[None]:
    """Shows a table of counts, refreshed while the job runs; without a terminal it is printed once, at the end."""
    ended = threading.Event()
    with Live(_counts(bus), console=console, auto_refresh=False) as live:

        def refresh() -> None:
            while not ended.wait(REFRESH_SECONDS):
                live.update(_counts(bus), refresh=True)

        watcher = threading.Thread(target=refresh, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            live.update(_counts(bus), refresh=True)


def _counts(bus: Bus) -> Table:
    table = Table("topic", "records", "read by", "unread")
    for topic in sorted(bus.topics()):
        appended = sum(extent.end for extent in bus.extents(topic).values())
        if not appended:
            continue
        groups = [(name, wanted) for name, wanted in _READERS.items() if topics.matches(topic, wanted)]
        unread = [unfinished(bus, name, (topic,))[0] for name, _ in groups]
        table.add_row(
            topic,
            f"{appended:,}",
            ", ".join(name for name, _ in groups),
            ", ".join(f"{one:,}" for one in unread),
        )
    return table


_READERS: Mapping[str, tuple[str, ...]] = {
    "router": ("events.*",),
    "deliverer": (topics.DELIVERIES,),
    "wheel": ("retries.*",),
    "archiver": topics.ARCHIVED,
}


def _answer(deployment: Deployment) -> Table:
    config = deployment.config
    result = query(deployment.archive, SQL, cache=config.home / "cache", logs=config.logs_folder)
    table = Table(*result.columns)
    for row in result.rows():
        table.add_row(*map(str, row.values()))
    return table


def print_checks(console: Console, checks: Sequence[Check]) -> bool:
    """Prints each check and the first of its findings; returns True if there are none."""
    console.rule("what went in, and what came out")
    table = Table("check", "compared", "problems", "")
    for check in checks:
        problems = len(check.findings)
        result = "[red]FAILS" if problems else "[green]holds"
        table.add_row(check.name, f"{check.compared:,}", f"{problems:,}", result)
    console.print(table)
    for check in checks:
        for finding in check.findings[:SHOWN_FINDINGS]:
            console.print(f"[red]{escape(str(finding))}")
    return not any(check.findings for check in checks)


def _serve(console: Console, deployment: Deployment, runner: Runner) -> None:
    config = deployment.config
    exports = [f"HELIOGRAPH_HOME={config.home}"]
    if config.bus.url:
        exports += [
            "HELIOGRAPH_BUS_URL=(the URL given as --bus)",
            f"HELIOGRAPH_BUS_NAMESPACE={config.bus.namespace}",
        ]
    if config.archive.url:
        exports.append(f"HELIOGRAPH_ARCHIVE_URL='{config.archive.url}'")
    lines = "".join(f"  export {each}\n" for each in exports)
    console.print(f"\nStill running; try in another terminal:\n{escape(lines)}  heliograph topics")
    console.print("Ctrl-C ends the demo and removes the folder.")
    try:
        while not runner.failures():
            time.sleep(1)
    except KeyboardInterrupt:
        console.print()

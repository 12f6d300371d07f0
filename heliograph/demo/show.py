"""The demo itself: start real parts, emit, watch, and account for everything."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping
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
from heliograph.demo.account import tell
from heliograph.demo.parts import Parts, borrowed
from heliograph.demo.receiver import DemoReceiver
from heliograph.demo.reconcile import Check, reconcile, take
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.examples import EXAMPLES
from producers.stream import generate
from schemas import topics
from sinks.kinds import KINDS

SEED = 2019
CHUNK = 500
REFRESH_SECONDS = 0.25
SQL = """
select regionId as region, count(*) as events, count(*) filter (where level = 'CRITICAL') as critical,
       min(eventTime) as first, max(eventTime) as last
from events group by all order by events desc, region
"""


def demonstrate(*, events: int, serve: bool, bus: str = "", archive: str = "") -> bool:
    """The main job end to end in a temporary folder; True if every check held. `serve`: go on until Ctrl-C.

    `bus` and `archive`: URLs of a Kafka cluster and of a store to run on instead; what is made there has a name of
    its own and is removed at the end. Raises InvalidConfiguration.
    """
    console = Console()
    logging_setup.configure(LogSection(level="warning"))
    with (
        tempfile.TemporaryDirectory(prefix="heliograph-demo-") as folder,
        borrowed("demo", bus, archive) as parts,
        DemoReceiver() as receiver,
    ):
        config = _config(Path(folder), parts)
        with Deployment(config) as deployment:
            apply(deployment.bus, read_file(_subscriptions(receiver.url)), KINDS)
            runner = Runner(deployment.bus, roles(deployment))
            runner.start()
            try:
                held = _job(console, deployment, runner, receiver, events)
                if serve:
                    _serve(console, deployment, runner)
            finally:
                runner.join()
        if parts.name:
            console.print(f"everything named {parts.name} on the cluster or in the store is removed now")
    return held


def _job(
    console: Console, deployment: Deployment, runner: Runner, receiver: DemoReceiver, count: int
) -> bool:
    console.rule("emit, route, deliver, archive")
    accepted: list[bytes] = []
    with _watching(console, deployment.bus):
        edge = Edge(deployment.bus, deployment.config.events.topics)
        for chunk in _chunks(count, deployment.clock.now()):
            edge.submit(chunk)
            accepted += chunk
        runner.wait_until_idle()
    failures = runner.failures()
    for role, why in failures.items():
        console.print(f"[red]{role}: {why}")
    books = take(deployment.bus)
    tell(console, deployment, books, receiver.bodies)
    console.rule("an answer in SQL: heliograph query")
    console.print(_answer(deployment))
    console.rule("the books")
    checks = reconcile(deployment.bus, deployment.archive, books, accepted=accepted, received=receiver.bodies)
    console.print(_checked(checks))
    return not failures and all(check.holds for check in checks)


def _config(home: Path, parts: Parts) -> Config:
    return Config(
        home=home,
        bus=parts.bus,
        archive=parts.archive,
        delivery=DeliverySection(
            objects=parts.objects,
            allow_networks=(ip_network("127.0.0.0/8"),),
            function_modules=("demo_function",),
            function_path=Path(str(files("heliograph.demo") / "functions")),
        ),
    )


def _subscriptions(url: str) -> str:
    return (files("heliograph.demo") / "subscriptions.toml").read_text().replace("RECEIVER", url)


def _chunks(count: int, now: int) -> Iterator[list[bytes]]:
    """The examples, then a generated stream, in chunks."""
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
    """A table of counts that lives while the job runs; on no terminal it is printed once, at the end."""
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


def _checked(checks: list[Check]) -> Table:
    table = Table("check", "is", "should be", "")
    for check in checks:
        table.add_row(
            check.says, f"{check.left:,}", f"{check.right:,}", "[green]holds" if check.holds else "[red]FAILS"
        )
    return table


def _serve(console: Console, deployment: Deployment, runner: Runner) -> None:
    config = deployment.config
    exports = [f"HELIOGRAPH_HOME={config.home}"]
    if config.bus.url:
        exports += [
            "HELIOGRAPH_BUS_URL=(what --bus says)",
            f"HELIOGRAPH_BUS_NAMESPACE={config.bus.namespace}",
        ]
    if config.archive.url:
        exports.append(f"HELIOGRAPH_ARCHIVE_URL='{config.archive.url}'")
    lines = "".join(f"  export {each}\n" for each in exports)
    console.print(f"\nRunning on; try in another terminal:\n{escape(lines)}  heliograph topics")
    console.print("Ctrl-C ends it and removes the folder.")
    try:
        while not runner.failures():
            time.sleep(1)
    except KeyboardInterrupt:
        console.print()

"""Measures 100,000 notifications from a file through five subscriptions into the archive, beside two bare loops.

One loop only appends the same bytes to the same kind of bus in the same batches; the other only parses them. Each has
one process and one thread.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import orjson

from heliograph.bus.open import open_bus
from producers.stream import generate
from schemas.record import NewRecord
from tests.acceptance.product import Product

EVENTS = 100_000
BATCH = 5000
SEED = 7
LEVELS_AND_NAMES = (
    ("q-disk", 'names = ["Disk:*"]', 'kind = "topic"\ntopic = "disks"'),
    ("q-snapshot", 'names = ["Snapshot:*"]', 'kind = "topic"\ntopic = "snapshots"'),
    ("l-network", 'names = ["NetworkInterface:*"]', 'kind = "logs"\nproject = "bench"\nlogstore = "network"'),
    ("l-state", 'names = ["Instance:StateChange"]', 'kind = "logs"\nproject = "bench"\nlogstore = "state"'),
    ("o-system", 'names = ["Instance:System*"]', 'kind = "object"'),
)


def subscriptions() -> str:
    """Returns a file of five subscriptions with targets of the kinds topic, logs and object. They match almost all
    events."""
    return "\n".join(
        f'[[subscription]]\nname = "{name}"\n{clause}\n[[subscription.target]]\nid = "{name}"\n{target}\n'
        for name, clause, target in LEVELS_AND_NAMES
    )


def run() -> None:
    """Runs the benchmark and prints its figures."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        root = Path(folder)
        events = list(generate(SEED, EVENTS, 1_700_000_000_000))
        file = root / "events.jsonl"
        file.write_bytes(b"\n".join(events))
        append = _append_only(root / "bare.db", events)
        parse = _parse_only(events)
        product = Product(root / "home")
        product.apply(subscriptions())
        emit = _timed(product, "emit", "--file", str(file))
        run_all = _timed(product, "run", "--until-idle")
        rows = {row["topic"]: row["appended"] for row in product.rows("topics")}
        product.do("archive", "verify")
    mean = sum(map(len, events)) / len(events)
    appended = sum(rows.values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"spine: {EVENTS:,} events of {mean:.0f} bytes, {rows['deliveries']:,} deliveries, {appended:,} records"
    )
    print(f"  append only            {append:7.2f} s  {EVENTS / append:10,.0f} events/s")
    print(f"  parse only             {parse:7.2f} s  {EVENTS / parse:10,.0f} events/s")
    print(f"  emit --file            {emit:7.2f} s  {emit / append:6.2f} × append only")
    print(f"  run --until-idle       {run_all:7.2f} s  {run_all / append:6.2f} × append only, ")
    print(
        f"                         {run_all / (append * appended / EVENTS):6.2f} × append only of as many records"
    )
    print(f"  largest process        {peak:7.0f} MiB")


def _append_only(path: Path, events: list[bytes]) -> float:
    bus = open_bus(f"sqlite://{path}")
    records = [NewRecord("events.bare", value, b"%d" % (at % 1000)) for at, value in enumerate(events)]
    bus.append(records[:1])
    began = time.perf_counter()
    for at in range(0, len(records), BATCH):
        bus.append(records[at : at + BATCH])
    took = time.perf_counter() - began
    bus.close()
    return took


def _parse_only(events: list[bytes]) -> float:
    began = time.perf_counter()
    for value in events:
        orjson.loads(value)
    return time.perf_counter() - began


def _timed(product: Product, *words: str) -> float:
    began = time.perf_counter()
    product.do(*words)
    return time.perf_counter() - began

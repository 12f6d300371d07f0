"""Measures archiving to a real S3 server, beside writing the same objects with bare boto3.

The server is SeaweedFS on loopback, on the same cores. The records are in memory, so that reading them costs little.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable

import structlog

from archiver.write.archiver import Archiver
from archiver.write.policy import ArchivePolicy
from heliograph.bus.memory import MemoryBus
from heliograph.store.open import open_store
from producers.stream import generate
from schemas.clock import SystemClock
from schemas.record import NewRecord, TopicPartition
from tests.services import seaweedfs
from tests.services.s3 import ENVIRONMENT, Service

EVENTS = 100_000
BATCH = 5000
TOPIC = "events.ecs.instance"
ROUNDS = 3


def run() -> None:
    """Runs the benchmark and prints its figures."""
    os.environ.update(ENVIRONMENT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    values = list(generate(7, EVENTS, 1_700_000_000_000))
    service = seaweedfs.run()
    try:
        rounds = [_round(service, values) for _ in range(ROUNDS)]
    finally:
        service.stop()
    archived, bare, stored = (
        statistics.median(each) for each in zip(*(times for times, _ in rounds), strict=True)
    )
    sizes = rounds[0][1]
    print(f"s3: {EVENTS:,} events of {sum(map(len, values)) / EVENTS:.0f} bytes, {len(sizes)} segments of")
    print(
        f"    {sum(sizes) / len(sizes) / 1024:,.0f} KiB, {sum(sizes) / EVENTS:.0f} bytes an event; medians of {ROUNDS} rounds"
    )
    print(f"  archiver to S3         {archived:7.2f} s  {EVENTS / archived:10,.0f} events/s")
    print(
        f"  bare boto3 puts        {bare:7.3f} s  {archived / bare:6.1f} × bare boto3 puts; the rest is reading and encoding"
    )
    print(f"  puts through S3Store   {stored:7.3f} s  {stored / bare:6.2f} × bare boto3 puts")


def _round(service: Service, values: list[bytes]) -> tuple[tuple[float, float, float], list[int]]:
    bus = MemoryBus(SystemClock(), partitions=1)
    for at in range(0, len(values), BATCH):
        bus.append([NewRecord(TOPIC, value, key=b"%d" % at) for value in values[at : at + BATCH]])
    bucket = service.bucket()
    store = open_store(service.url(bucket, "archive"))
    archiver = Archiver(bus, store, ArchivePolicy(max_records=10_000), SystemClock())
    archived = _timed(lambda: _archive(archiver, bus))
    archiver.close()
    bodies = [store.get(info.key) for info in store.list("topics/")]
    client = service.client()

    def bare() -> None:
        for number, body in enumerate(bodies):
            client.put_object(Bucket=bucket, Key=f"bare/{number}", Body=body)

    def through_store() -> None:
        for number, body in enumerate(bodies):
            store.put_new(f"ours/{number}", body)

    times = (archived, _timed(bare), _timed(through_store))
    store.close()
    return times, [len(body) for body in bodies]


def _archive(archiver: Archiver, bus: MemoryBus) -> None:
    partition = TopicPartition(TOPIC, 0)
    end = bus.extents(TOPIC)[partition].end
    while (lag := bus.lag("archiver").get(partition)) is None or lag.cursor < end:
        archiver.flush()
        archiver.step(0)


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began

"""The archive in real buckets: crashes, lost answers, races and a store that is down."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from archiver.read.reader import list_segments, read_records
from archiver.read.verify import verify
from archiver.write.archiver import Archiver
from archiver.write.policy import ArchivePolicy
from heliograph.bus.base import Bus
from heliograph.bus.memory import MemoryBus
from heliograph.store.base import ObjectStore
from heliograph.store.open import open_store
from heliograph.store.s3 import client, store, upload
from schemas.clock import ManualClock
from schemas.record import NewRecord, TopicPartition
from tests.archiver.making import TOPIC
from tests.archiver.stores import Crash, FaultyStore
from tests.services.faulty_proxy import Asked, Fault, Proxy, run_proxy
from tests.services.minio import minio
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["minio", "seaweedfs"]

PARTITION = TopicPartition(TOPIC, 0)
POLICY = ArchivePolicy(max_records=10, max_age=60, max_idle=5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(client, "READ_SECONDS", 5.0)


@pytest.fixture(params=["seaweedfs", "minio"])
def service(request: pytest.FixtureRequest) -> Service:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Service)
    return found


@pytest.fixture
def bucket(service: Service) -> str:
    return service.bucket()


@pytest.fixture
def direct(service: Service, bucket: str) -> Iterator[ObjectStore]:
    found = open_store(service.url(bucket, "archive"))
    yield found
    found.close()


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with run_proxy(service.endpoint) as found:
        yield found


@pytest.fixture
def through_proxy(service: Service, bucket: str, proxy: Proxy) -> Iterator[ObjectStore]:
    found = open_store(service.url(bucket, "archive", endpoint=proxy.endpoint))
    yield found
    found.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    found = MemoryBus(clock, partitions=1)
    found.create(TOPIC)
    return found


def append(bus: Bus, values: list[bytes]) -> None:
    bus.append([NewRecord(TOPIC, value, key=b"k") for value in values])


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def archive(archiver: Archiver, steps: int = 4) -> None:
    for _ in range(steps):
        archiver.flush()
        archiver.step(0)


def check(kept: ObjectStore, bus: MemoryBus) -> None:
    """Checks from the bucket alone that the archive holds each record of the bus once."""
    report = verify(kept)
    assert report.sound, report.line()
    assert list(read_records(kept)) == list(bus.read(PARTITION, 0, 100_000).records)


class OwnGroup:
    """A bus on which each archiver has a group of its own, so that several own all partitions."""

    def __init__(self, bus: MemoryBus, group: str) -> None:
        self._bus = bus
        self._group = group
        self.log_id, self.extents, self.read = bus.log_id, bus.extents, bus.read

    def consumer(self, topics: tuple[str, ...], group: str, **callbacks: Callable[..., None]) -> object:
        return self._bus.consumer((TOPIC,), self._group, **callbacks)

    def lag(self, group: str) -> object:
        return self._bus.lag(self._group)


def owner_of_all(bus: MemoryBus, kept: ObjectStore, clock: ManualClock, name: str) -> Archiver:
    return Archiver(OwnGroup(bus, name), kept, POLICY, clock)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_crash_between_put_and_commit_archives_each_record_once(
    bus: MemoryBus, direct: ObjectStore, clock: ManualClock
) -> None:
    for turn in range(3):
        append(bus, numbers(turn * 25, turn * 25 + 25))
        dying = FaultyStore(direct)
        dying.crash_after = True
        archiver = Archiver(bus, dying, POLICY, clock)
        with pytest.raises(Crash):
            archive(archiver)
        bus.kill(archiver._consumer.member)  # pyright: ignore[reportPrivateUsage]
    archiver = Archiver(bus, direct, POLICY, clock)
    archive(archiver)
    archiver.close()
    check(direct, bus)
    assert bus.lag("archiver")[PARTITION].cursor == 75


@pytest.mark.parametrize("fault", [Fault.FAIL_AFTER, Fault.CUT_AFTER])
@pytest.mark.parametrize("times", [1, 3])
def test_a_put_that_fails_after_storing_archives_each_record_once(
    bus: MemoryBus,
    direct: ObjectStore,
    through_proxy: ObjectStore,
    proxy: Proxy,
    clock: ManualClock,
    fault: Fault,
    times: int,
) -> None:
    """After three failures in a row the store's own retries are used up; the archiver finds its segment at its next try."""
    archiver = Archiver(bus, through_proxy, POLICY, clock)
    for turn in range(4):
        append(bus, numbers(turn * 10, turn * 10 + 10))
        proxy.faults = [fault] * times
        archive(archiver)
        clock.advance(31)
    archive(archiver)
    assert not proxy.faults
    archiver.close()
    check(direct, bus)
    assert len(list(list_segments(direct))) == 4


def test_a_store_that_was_down_gets_every_record_once(
    bus: MemoryBus, direct: ObjectStore, through_proxy: ObjectStore, proxy: Proxy, clock: ManualClock
) -> None:
    limit = 200_000
    archiver = Archiver(bus, through_proxy, ArchivePolicy(max_records=100), clock, memory_limit=limit)
    append(bus, numbers(0, 10))
    archive(archiver)
    proxy.down = True
    largest = 0
    for turn in range(15):
        append(bus, [b"%d " % turn * 1000] * 50)
        archiver.step(0)
        clock.advance(31)
        largest = max(largest, archiver._size())  # pyright: ignore[reportPrivateUsage]
    written = sum(len(record.value) for record in bus.read(PARTITION, 0, 10_000).records)
    assert written > 5 * limit
    assert limit < largest < 2 * limit
    read = largest
    for _ in range(5):
        archiver.step(0)
        assert archiver._size() == read  # pyright: ignore[reportPrivateUsage]
        append(bus, [b"x" * 1000] * 100)
    proxy.down = False
    clock.advance(31)
    archive(archiver, steps=30)
    archiver.close()
    check(direct, bus)
    assert bus.lag("archiver")[PARTITION].cursor == bus.extents(TOPIC)[PARTITION].end


def test_two_archivers_of_one_partition_archive_each_record_once(
    bus: MemoryBus, service: Service, bucket: str, direct: ObjectStore, clock: ManualClock
) -> None:
    stores = [open_store(service.url(bucket, "archive")) for _ in range(2)]
    writers = [
        owner_of_all(bus, kept, clock, name) for kept, name in zip(stores, ("one", "two"), strict=True)
    ]
    for turn in range(6):
        append(bus, numbers(turn * 7, turn * 7 + 7))
        for writer in writers:
            writer.step(0)
        clock.advance(6)
        for writer in writers[:: 1 if turn % 2 else -1]:
            writer.step(0)
    for writer in writers:
        archive(writer)
        writer.close()
    for kept in stores:
        kept.close()
    check(direct, bus)


def test_a_crash_between_the_parts_of_an_upload_archives_each_record_once(
    bus: MemoryBus,
    direct: ObjectStore,
    through_proxy: ObjectStore,
    proxy: Proxy,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The uploaded parts stay unfinished, and no listing shows them."""
    through_proxy._part_size = 5 * 2**20  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    append(bus, [bytes([number]) * 1000 + _noise(number) for number in range(24)])
    archiver = Archiver(bus, through_proxy, ArchivePolicy(), clock)

    def die(*_: object, **__: object) -> None:
        raise Crash

    original = proxy.take_fault

    def nothing_is_aborted(asked: Asked) -> Fault | None:
        return Fault.CUT_BEFORE if asked.method == "DELETE" else original(asked)

    with monkeypatch.context() as patched:
        patched.setattr(upload.Upload, "_part", _dying_at_second(die))
        patched.setattr(proxy, "take_fault", nothing_is_aborted)
        with pytest.raises(Crash):
            archive(archiver)
    bus.kill(archiver._consumer.member)  # pyright: ignore[reportPrivateUsage]
    assert list(direct.list("")) == []
    archiver = Archiver(bus, through_proxy, ArchivePolicy(), clock)
    archive(archiver)
    archiver.close()
    check(direct, bus)


def _dying_at_second(die: Callable[..., None]) -> Callable[..., dict[str, object]]:
    original = upload.Upload._part  # pyright: ignore[reportPrivateUsage]

    def part(self: upload.Upload, where: dict[str, str], number: int, body: bytes) -> dict[str, object]:
        if number == 2:
            die()
        return original(self, where, number, body)

    return part


def _noise(seed: int) -> bytes:
    """Returns half a MiB that does not compress."""
    import random

    return random.Random(seed).randbytes(2**19)


def test_verify_finds_one_changed_byte(bus: MemoryBus, direct: ObjectStore, clock: ManualClock) -> None:
    append(bus, numbers(0, 30))
    archiver = Archiver(bus, direct, POLICY, clock)
    archive(archiver)
    archiver.close()
    check(direct, bus)
    for info in list(list_segments(direct)):
        body = direct.get(info.key)
        at = len(body) // 2
        direct.put(info.key, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        report = verify(direct)
        assert not report.sound
        assert report.problems[0].key >= info.key
        direct.put(info.key, body)
    assert verify(direct).sound

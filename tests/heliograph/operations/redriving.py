"""A bus, an archive and dead letters in memory, and the part of the deliverer that redrives need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from archiver.write.archiver import Archiver
from archiver.write.policy import ArchivePolicy
from heliograph.bus.memory import MemoryBus
from heliograph.operations.dead_letters import ALL, Letter, LetterFilter, find_letters
from heliograph.operations.history import History
from heliograph.operations.redrive import Redrive, RedrivePlan, RedriveResult, RedriveRun, plan_redrive
from heliograph.store.memory import MemoryStore
from router.deliver.settle import dead
from schemas.clock import ManualClock
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivery,
    Exhausted,
    Reason,
    ReasonCode,
    Verdict,
    VerdictState,
    delivery_id,
    read_delivery,
    verdict_record,
)
from schemas.record import NewRecord, Position, Record
from schemas.topics import DEAD_LETTERS, DELIVERIES, VERDICTS
from tests.archiver.stores import Crash, FaultyStore
from tests.router.deliver.engine import apply, records

UNREACHABLE = Reason(ReasonCode.UNREACHABLE, "nobody there")
POLICY = ArchivePolicy(max_bytes=2**20, max_records=3, max_age=60, max_idle=1)


def letter(number: int, target: str = "ops", resource: str = "", subscription: str = "all") -> Delivery:
    """A delivery of the event at this offset, attempted twice."""
    source = Position("events.other", 0, number)
    attempts = (
        Attempts()
        .plus(Attempt(at=1, took=0.5, reason=UNREACHABLE))
        .plus(Attempt(at=2, took=0.5, reason=UNREACHABLE))
    )
    return Delivery(
        id=delivery_id("log", source, subscription, target),
        source=source,
        subscription=subscription,
        target=target,
        resource=resource or f"acs:ecs:r:1:instance/i-{number}",
        event=b'{"name":"Disk:Stalled","level":"INFO","product":"ECS","n":%d}' % number,
        event_time=1_699_999_000_000 + number,
        configuration=1,
        attempts=attempts,
    )


class CrashingBus(MemoryBus):
    """A bus whose user crashes at an append, after `left` that succeed: behind it, or with `before` ahead of it."""

    left: int | None = None
    before = False

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self.left is None:
            return super().append(records)
        self.left -= 1
        if self.left < 0 and self.before:
            raise Crash
        positions = super().append(records)
        if self.left < 0:
            raise Crash
        return positions


class DeploymentParts:
    """The parts of a deployment that redrives use, with target `ops` of subscription `all`."""

    def __init__(self, **target: Any) -> None:
        self.clock = ManualClock()
        self.bus = CrashingBus(self.clock, partitions=2)
        self.store = FaultyStore(MemoryStore())
        apply(self.bus, "all", {"id": "ops", "kind": "plain", **target})
        for topic in (DELIVERIES, VERDICTS, DEAD_LETTERS):
            self.bus.create(topic)
        self.pauses: list[float] = []
        self._deliverer = self.bus.consumer([DELIVERIES], "deliverer")
        self._under_way: list[tuple[Record, Delivery]] = []

    def history(self) -> History:
        return History(self.bus, lambda: self.store)

    def end_as_dead(self, *deliveries: Delivery, exhausted: Exhausted = Exhausted.TRIES) -> None:
        """Ends each delivery as dead, a millisecond after the one before."""
        for one in deliveries:
            self.clock.advance(0.001)
            self.bus.append(dead(one, UNREACHABLE, exhausted, self.clock.now()).records)

    def append_verdicts(self, state: VerdictState, *deliveries: Delivery) -> None:
        """Appends a verdict for each delivery."""
        for one in deliveries:
            self.bus.append([verdict_record(_verdict(one, state, self.clock.now()))])

    def listed(self, wanted: LetterFilter = ALL, *, dropped: bool = False) -> list[Letter]:
        """Returns the letters that are listed."""
        return find_letters(self.history(), wanted, include_dropped=dropped)[0]

    def plan(self, redrive: Redrive) -> RedrivePlan:
        return plan_redrive(self.history(), redrive, allow_missing=True)

    def planned(self, redrive: Redrive) -> dict[RedriveResult, list[str]]:
        """Returns the planned results as delivery ids."""
        found: dict[RedriveResult, list[str]] = {}
        for one, result in self.plan(redrive).results:
            found.setdefault(result, []).append(one.id)
        return found

    def redrive(self, redrive: Redrive) -> RedriveRun:
        """Runs a redrive to its end, or to a crash."""
        work = RedriveRun(self.history(), self.plan(redrive), self.clock)
        work.run(pause=self._pause)
        return work

    def appended(self) -> list[Delivery]:
        """Returns the deliveries in the topic `deliveries`, in the order of each partition."""
        return [read_delivery(record) for record in records(self.bus, DELIVERIES)]

    def take(self) -> list[Delivery]:
        """Polls new deliveries as the deliverer does; they are under way from then on."""
        polled = self._deliverer.poll(1000, 0.0).records
        taken = [(record, read_delivery(record)) for record in polled]
        self._under_way += taken
        return [one for _, one in taken]

    def end(self, delivers: Callable[[Delivery], bool]) -> None:
        """Ends every delivery under way: delivered, or dead again."""
        self.take()
        for record, one in self._under_way:
            self.clock.advance(0.001)
            now = self.clock.now()
            if delivers(one):
                follows: Iterable[NewRecord] = [verdict_record(_verdict(one, VerdictState.DELIVERED, now))]
            else:
                follows = dead(one, UNREACHABLE, Exhausted.TRIES, now).records
            self._deliverer.done([record.position], list(follows))
        self._under_way = []

    def archive_and_truncate(self) -> None:
        """Archives everything, and removes it from the bus as retention does."""
        self.archive()
        for topic in (DEAD_LETTERS, VERDICTS):
            for partition, extent in self.bus.extents(topic).items():
                self.bus.truncate(partition, extent.end)

    def archive(self) -> None:
        """Archives everything."""
        archiver = Archiver(self.bus, self.store, POLICY, self.clock)
        for _ in range(3):
            archiver.step(0)
        archiver.flush()
        while archiver.busy():
            archiver.step(0)
        archiver.close()

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)


def _verdict(one: Delivery, state: VerdictState, now: int) -> Verdict:
    return Verdict(
        delivery=one.id,
        state=state,
        source=str(one.source),
        subscription=one.subscription,
        target=one.target,
        resource=one.resource,
        at=now,
        configuration=one.configuration,
        attempts=one.attempts,
        redrive=one.redrive,
    )

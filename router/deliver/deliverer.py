"""The role that delivers: poll, hand to the lane of the target, turn outcomes into records, commit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from heliograph.bus.base import Bus, Polled
from router.configuration import Configuration
from router.deliver.lane import Completion, Lane, Parcel
from router.deliver.lanes import Lanes
from router.deliver.settle import Settlement, dead, put_off, settle
from schemas.clock import Clock
from schemas.delivery import Delivered, Exhausted, Outcome, Reason, ReasonCode, Rejected, Retry, read_delivery
from schemas.errors import BusError
from schemas.metrics import ATTEMPTS, DEFERRED, GAPS, REJECTED, RETRIED, VERDICTS
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.rejects import rejected_record
from schemas.topics import DEAD_LETTERS, DELIVERIES, REJECTS
from schemas.topics import VERDICTS as VERDICTS_TOPIC
from sinks.base import SinkKind, Surroundings

LIMIT = 1000
"""Records of one poll. A partition of which anything waits here is not read on, so this bounds what waits."""

_LOOK_AGAIN_SECONDS = 0.1
_CONFIGURATION_SECONDS = 0.5
_log = structlog.get_logger()


class Deliverer:
    """Every record of `deliveries` ends as a verdict, on the wheel, or among the dead letters; only then is it done.

    What a subscription matched before it was disabled or deleted still goes out: it was promised. Only a delivery
    whose target no subscription has any more becomes a dead letter.
    """

    name = "deliverer"
    topics = (DELIVERIES,)

    def __init__(
        self, bus: Bus, surroundings: Surroundings, clock: Clock, kinds: Mapping[str, SinkKind]
    ) -> None:
        for topic in (DELIVERIES, VERDICTS_TOPIC, DEAD_LETTERS, REJECTS):
            bus.create(topic)
        self._clock = clock
        self._configuration = Configuration(bus)
        self._configuration.refresh()
        self._configured_at = clock.monotonic()
        self._pressed: set[Lane] = set()
        self._ahead: list[Parcel] = []
        self._held: set[int] = set()
        self._ended: list[Position] = []
        self._follows: list[NewRecord] = []
        self._outstanding = 0
        self._consumer = bus.consumer(self.topics, self.name, lost=self._lost)
        self._lanes = Lanes(kinds, surroundings, clock, self._consumer.wake)

    def step(self, timeout: float) -> None:
        """Settle what has ended, take in what has come, hand out what there is room for."""
        self._settle_completions()
        self._commit()
        self._follow_configuration()
        self._hand_out()
        self._accept(self._consumer.poll(LIMIT, self._patience(timeout)))

    def busy(self) -> bool:
        """Whether anything was polled and is not committed as ended."""
        return self._outstanding > 0

    def flush(self) -> None:
        """Nothing here waits for company."""

    def wake(self) -> None:
        """Make a `step` that waits return soon."""
        self._consumer.wake()

    def close(self) -> None:
        """Wait some seconds for what is in flight and commit it; the rest is for the next owner."""
        try:
            self._lanes.close()
            self._settle_completions()
            self._commit()
        finally:
            self._consumer.close()

    def _settle_completions(self) -> None:
        for completion in self._lanes.completions():
            self._settle(completion)

    def _settle(self, completion: Completion) -> None:
        """Outcomes of one call of a sink, as records."""
        lane, now = completion.lane, self._clock.now()
        policy = lane.target.retry
        answered = any(not isinstance(outcome, Retry) for outcome in completion.outcomes)
        lane.ended(completion.parcels, answered=answered, now=self._clock.monotonic())
        states: Counter[str] = Counter()
        for parcel, outcome in zip(completion.parcels, completion.outcomes, strict=True):
            settlement = settle(parcel.delivery, outcome, policy, completion.at, completion.took, now)
            self._end(parcel, settlement)
            states[settlement.state or ""] += 1
        _count(lane.target.id, completion.outcomes, states)

    def _end(self, parcel: Parcel, settlement: Settlement) -> None:
        self._ended.append(parcel.position)
        self._follows.extend(settlement.records)

    def _commit(self) -> None:
        """One commit for all that has ended. If it fails all of it is kept, and nothing more is sent meanwhile."""
        if not self._ended:
            return
        self._consumer.done(self._ended, self._follows)
        self._outstanding -= len(self._ended)
        self._ended, self._follows = [], []

    def _follow_configuration(self, wanted: int = 0) -> None:
        """Read the configuration at least twice a second, and at once when a delivery was matched under a later one."""
        now = self._clock.monotonic()
        if wanted <= self._configuration.version and now - self._configured_at < _CONFIGURATION_SECONDS:
            return
        self._configured_at = now
        if self._configuration.refresh():
            for parcel in self._lanes.follow(self._configuration.targets):
                self._place(parcel)
        ahead, self._ahead = self._ahead, []
        for parcel in ahead:
            self._place(parcel)
        if self._ahead:
            _log.warning("deliveries wait for a later configuration", version=self._configuration.version)

    def _patience(self, timeout: float) -> float:
        return min(timeout, _LOOK_AGAIN_SECONDS) if self._pressed or self._ahead else timeout

    def _accept(self, polled: Polled) -> None:
        """Read records as deliveries, give each its place and hand out what fits."""
        for gap in polled.gaps:
            GAPS.labels(self.name, gap.topic).inc(gap.end - gap.start)
            _log.error(
                "gap", role=self.name, topic=gap.topic, partition=gap.partition, start=gap.start, end=gap.end
            )
        self._outstanding += len(polled.records)
        parcels = [parcel for parcel in map(self._read, polled.records) if parcel is not None]
        self._follow_configuration(max((parcel.delivery.configuration for parcel in parcels), default=0))
        for parcel in parcels:
            self._place(parcel)
        self._hand_out()

    def _read(self, record: Record) -> Parcel | None:
        try:
            return Parcel(record.position, read_delivery(record))
        except (KeyError, ValueError) as error:
            REJECTED.labels(self.name).inc()
            _log.error("not a delivery", position=str(record.position), problem=repr(error))
            self._ended.append(record.position)
            self._follows.append(
                rejected_record(record.value, f"not a delivery: {error!r}", f"{self.name} {record.position}")
            )
            return None

    def _place(self, parcel: Parcel) -> None:
        delivery, configuration = parcel.delivery, self._configuration
        if delivery.configuration > configuration.version:
            self._ahead.append(parcel)
            return
        target = configuration.targets.get(delivery.target)
        if target is None:
            self._bury(parcel)
            return
        lane = self._lanes.of(target)
        lane.put(parcel)
        self._pressed.add(lane)

    def _bury(self, parcel: Parcel) -> None:
        reason = Reason(ReasonCode.NO_TARGET, "the target was deleted")
        self._end(parcel, dead(parcel.delivery, reason, Exhausted.NO_TARGET, self._clock.now()))
        VERDICTS.labels(parcel.delivery.target, "dead").inc()

    def _hand_out(self) -> None:
        """Give every lane what it has room for; what a stuck lane has no room for goes to the wheel."""
        now, room = self._clock.monotonic(), self._lanes.room
        handed: list[tuple[Lane, list[Parcel]]] = []
        for lane in self._pressed:
            parcels = lane.take(now, room)
            if parcels:
                handed.append((lane, parcels))
            if lane.waiting and lane.newly_stuck(now):
                _log.warning("target does not answer, deliveries are put off", target=lane.target.id)
            if lane.stuck:
                self._defer(lane)
        self._pressed = {lane for lane in self._pressed if lane.waiting}
        self._lanes.send(handed)
        self._hold()

    def _defer(self, lane: Lane) -> None:
        parcels, now = lane.clear(), self._clock.now()
        self._ended.extend(parcel.position for parcel in parcels)
        self._follows.extend(put_off(parcel.delivery, now) for parcel in parcels)
        DEFERRED.labels(lane.target.id).inc(len(parcels))

    def _hold(self) -> None:
        """Read nothing more of a partition while anything of it waits here."""
        waiting = {parcel.position.partition for parcel in self._ahead}
        for lane in self._pressed:
            waiting.update(lane.waiting_in)
        for partition in waiting - self._held:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), math.inf)
        for partition in self._held - waiting:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), None)
        self._held = waiting

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what has ended while the partitions are still ours; forget what waits of them."""
        try:
            self._settle_completions()
            self._commit()
        except BusError as error:
            _log.warning("what ended is committed later", problem=str(error))
        gone = frozenset(partition.partition for partition in partitions)
        kept = [parcel for parcel in self._ahead if parcel.position.partition not in gone]
        self._outstanding -= self._lanes.forget(gone) + len(self._ahead) - len(kept)
        self._ahead = kept


def _count(target: str, outcomes: Sequence[Outcome], states: Mapping[str, int]) -> None:
    for outcome, number in Counter(_name(outcome) for outcome in outcomes).items():
        ATTEMPTS.labels(target, outcome).inc(number)
    for state, number in states.items():
        if state:
            VERDICTS.labels(target, state).inc(number)
        else:
            RETRIED.labels(target).inc(number)


def _name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Retry():
            return "retry"
        case Rejected():
            return "rejected"

"""The role that delivers: claims deliveries, sends them through the lanes of their targets, settles their outcomes and
commits them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import structlog

from heliograph.bus.base import Bus, Consumer, Polled
from heliograph.bus.gaps import report_gaps
from router.configuration import Configuration
from router.deliver.awaited_version import AwaitedVersion
from router.deliver.judgement import judge
from router.deliver.lane import Completed, Lane, Recalled
from router.deliver.lanes import Lanes
from router.deliver.parking import Parking
from router.deliver.pending_commit import PendingCommit
from router.deliver.queues import ClaimedDelivery
from router.deliver.settle import RetryLater, defer, settle
from router.deliver.tally import Tally
from router.deliver.target_states import Available, Paused, Suspended, TargetStates
from schemas.clock import Clock
from schemas.delivery import Delivery, Exhausted, Reason, ReasonCode, read_delivery
from schemas.errors import BusError
from schemas.metrics import DEFERRED, TARGET_STATE
from schemas.record import Record, TopicPartition
from schemas.role import ConsumerRole
from schemas.target_state import GRAVITY, TargetStatus
from schemas.topics import DEAD_LETTERS, DELIVERIES, PARKED, REJECTS
from schemas.topics import VERDICTS as VERDICTS_TOPIC
from sinks.base import SinkContext, SinkKind

LIMIT = 1000
"""Records of one poll. A partition with waiting deliveries is paused, so this bounds how many wait."""

_POLL_SECONDS = 0.1
"""Longest poll in seconds while deliveries wait in this process."""
_REFRESH_SECONDS = 0.5
"""Seconds between two reads of the configuration and the target states."""
_SHORT_PAUSE_MS = 1000
"""Longest pause of a target, in milliseconds, during which its deliveries wait in the lane and are not deferred."""
_TARGET_DELETED = Reason(ReasonCode.NO_TARGET, "the target was deleted")
_log = structlog.get_logger()


class Deliverer(ConsumerRole[Consumer]):
    """Turns each record of `deliveries` into a verdict, a wait or a dead letter, and only then commits it.

    Deliveries of a disabled or deleted subscription are still sent. Only a delivery whose target belongs to no
    subscription any more becomes a dead letter.
    """

    name = "deliverer"
    topics = (DELIVERIES,)

    def __init__(
        self, bus: Bus, sink_context: SinkContext, clock: Clock, kinds: Mapping[str, SinkKind]
    ) -> None:
        for topic in (DELIVERIES, VERDICTS_TOPIC, DEAD_LETTERS, REJECTS):
            bus.create(topic)
        self._clock = clock
        self._configuration = Configuration(bus)
        self._states = TargetStates(bus)
        self._parking = Parking(bus)
        self._pending = PendingCommit(self._parking, clock)
        self._configuration.refresh()
        self._targets = self._configuration.read_targets()
        self._states.refresh()
        self._refreshed_at = clock.monotonic()
        self._awaited = AwaitedVersion()
        self._unplaced: list[ClaimedDelivery] = []
        self._backlogged: set[Lane] = set()
        self._held: set[int] = set()
        self._uncommitted = 0
        self._tally = Tally()
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._lost)
        self._lanes = Lanes(kinds, sink_context, clock, self._consumer.wake)

    def step(self, timeout: float) -> None:
        """Claims polled deliveries, settles those that sinks have answered, sends the next, commits.

        A delivery needs two steps at least: one claims, places and sends it, a later one settles and commits it.
        Results are settled before anything is sent: they make room in their lanes, and a lane with a new answer is not
        stuck.
        """
        self._commit()  # repeats a commit that failed: until it is stored, nothing more is sent
        self._claim(self._consumer.poll(LIMIT, self._poll_timeout(timeout)))
        self._place_due_parked()
        answers_read_at = self._lanes.answers_read_at()
        self._settle_results()
        self._send(answers_read_at)
        self._commit()

    def busy(self) -> bool:
        """True if a claimed delivery is not committed, or a parked one is due."""
        return self._uncommitted > 0 or self._parking.busy(self._clock.now())

    def close(self) -> None:
        """Waits some seconds for deliveries in flight and commits them; the next owner reads the others again."""
        try:
            self._lanes.close()
            self._settle_results()
            self._commit()
        finally:
            self._consumer.close()

    # 1. A delivery is claimed: polled, read, and placed in the lane of its target.

    def _poll_timeout(self, timeout: float) -> float:
        waits = self._backlogged or self._unplaced or not self._parking.empty
        return min(timeout, _POLL_SECONDS) if waits else timeout

    def _claim(self, polled: Polled) -> None:
        report_gaps(self.name, polled.gaps)
        self._uncommitted += len(polled.records)
        batch = [claimed for claimed in map(self._read, polled.records) if claimed is not None]
        self._refresh(max((claimed.delivery.configuration for claimed in batch), default=0))
        self._place_unplaced()
        self._place_all(batch)

    def _read(self, record: Record) -> ClaimedDelivery | None:
        try:
            return ClaimedDelivery(record.position, read_delivery(record))
        except (KeyError, ValueError) as error:
            _log.error(
                "record is not a delivery, moving it to rejects",
                position=str(record.position),
                problem=repr(error),
            )
            self._pending.reject(record, f"not a delivery: {error!r}", self.name)
            return None

    def _refresh(self, version: int) -> None:
        """Reads configuration and target states twice a second, and when a delivery needs a later `version`."""
        now = self._clock.monotonic()
        if version > self._configuration.version or now - self._refreshed_at >= _REFRESH_SECONDS:
            self._refreshed_at = now
            self._states.refresh()
            for lane in self._lanes:
                self._follow_state(lane)
            if self._configuration.refresh():
                self._awaited.reset()
                self._targets = self._configuration.read_targets()
                self._place_all(self._lanes.replace(self._targets))

    def _follow_state(self, lane: Lane) -> None:
        """Recalls the deliveries that a lane may not send now, and updates the metric of its target's state."""
        target, now = lane.target.id, self._clock.now()
        if not isinstance(self._states.availability(target, now), Available):
            self._lanes.recall(lane)
        condition = self._states.gravest(target, now)
        TARGET_STATE.labels(target).set(GRAVITY[condition.status if condition else TargetStatus.ACTIVE])

    def _place_unplaced(self) -> None:
        """Places deliveries of earlier polls that had to wait; those that still must wait stay unplaced."""
        if not self._unplaced:
            self._awaited.stop()
        unplaced, self._unplaced = self._unplaced, []
        self._place_all(sorted(unplaced, key=lambda claimed: claimed.position))

    def _place_all(self, batch: Iterable[ClaimedDelivery]) -> None:
        now = self._clock.now()
        for claimed in batch:
            self._place(claimed, now)

    def _place(self, claimed: ClaimedDelivery, now: int) -> None:
        """Puts a delivery into its lane, parks it, ends it, or keeps it to be placed later."""
        delivery = claimed.delivery
        target = self._targets.get(delivery.target)
        if self._awaits_configuration(delivery) or (
            target is not None and target.ordered and self._lanes.is_draining(target)
        ):
            self._place_later(claimed, now)
        elif target is None:
            self._pending.dead_letter(claimed, _TARGET_DELETED, Exhausted.NO_TARGET)
        elif target.expires is not None and _is_expired(claimed, target.expires, now):
            self._pending.expire(claimed, now)
        elif (
            target.ordered and claimed.position.topic == DELIVERIES and self._parking.holds_resource(delivery)
        ):
            self._pending.park(claimed)
        else:
            lane = self._lanes.find_or_open(target, delivery.lane)
            lane.put(claimed)
            self._backlogged.add(lane)

    def _awaits_configuration(self, delivery: Delivery) -> bool:
        """Returns True if the delivery was matched under a later version, which may still come."""
        known = self._configuration.version
        return delivery.configuration > known and self._awaited.may_come(
            delivery.configuration, known, self._clock.monotonic()
        )

    def _place_later(self, claimed: ClaimedDelivery, now: int) -> None:
        """Keeps a delivery whose configuration is not read yet, or whose lane drains before it gets new settings."""
        if claimed.position.topic == PARKED:
            self._parking.put_back(claimed, now)
        else:
            self._unplaced.append(claimed)

    def _place_due_parked(self) -> None:
        """Places the parked deliveries that are due; those of a paused target become due when the pause ends."""
        now = self._clock.now()
        for claimed in self._parking.take_due(now):
            availability = self._states.availability(claimed.delivery.target, now)
            if isinstance(availability, Paused):
                self._parking.put_back(claimed, availability.until)
            else:
                self._place(claimed, now)

    # 2. It is sent when its lane has room and its target is available; otherwise it waits, on the wheel or parked.

    def _send(self, answers_read_at: float) -> None:
        """Sends as many deliveries of each lane as it has room for. `answers_read_at`: seconds of the monotonic clock,
        to find stuck lanes."""
        now, monotonic, bytes_limit = self._clock.now(), self._clock.monotonic(), self._lanes.bytes_limit
        batches: list[tuple[Lane, list[ClaimedDelivery]]] = []
        for lane in self._backlogged:
            match self._states.availability(lane.target.id, now):
                case Suspended(why=why):
                    self._dead_letter_all(lane, why)
                    continue
                case Paused(until=until):
                    if until - now > _SHORT_PAUSE_MS:
                        self._defer_all(lane, now, until)
                    continue
                case Available(probing=probing):
                    batch = lane.take_probe(monotonic) if probing else lane.take(monotonic, bytes_limit)
                case _ as never:
                    assert_never(never)
            if batch:
                batches.append((lane, batch))
            self._defer_if_blocked(lane, now, answers_read_at, probing=probing)
        self._backlogged = {lane for lane in self._backlogged if lane.waiting}
        self._lanes.send(batches)
        self._hold_partitions()

    def _dead_letter_all(self, lane: Lane, why: str) -> None:
        """Ends all waiting and parked deliveries of a suspended target."""
        reason = Reason(ReasonCode.SUSPENDED, why)
        for claimed in (*lane.take_all(), *self._parking.find_waiting(lane.target.id)):
            self._pending.dead_letter(claimed, reason, Exhausted.SUSPENDED)

    def _defer_if_blocked(self, lane: Lane, now: int, answers_read_at: float, *, probing: bool) -> None:
        """Defers the deliveries of a lane that cannot send soon: one that probes its target, is at its rate, or is
        stuck."""
        if not lane.waiting:
            return
        if probing or (lane.rate is not None and lane.full):
            self._defer_all(lane, now)
            return
        if lane.becomes_stuck(answers_read_at):
            _log.warning("target does not answer, deferring its deliveries", target=lane.target.id)
        if lane.stuck:
            self._defer_all(lane, now)

    def _defer_all(self, lane: Lane, now: int, until: int = 0) -> None:
        """Defers all waiting deliveries of a lane: at least to `until`, or to the next slots of its rate."""
        batch = lane.take_all()
        DEFERRED.labels(lane.target.id).inc(len(batch))
        for claimed in batch:
            not_before = lane.take_slot(now) if lane.rate is not None and not until else until
            settlement = defer(claimed.delivery, lane.target.retry, now, not_before)
            if isinstance(settlement, RetryLater) and claimed.position.topic == PARKED:
                wait = settlement.delivery.wait
                self._parking.put_back(claimed, wait.due if wait is not None else now)
            else:
                self._pending.settle(lane, claimed, settlement)

    def _hold_partitions(self) -> None:
        """Pauses the partitions whose deliveries wait in this process, and resumes the others."""
        waiting = {claimed.position.partition for claimed in self._unplaced}
        for lane in self._backlogged:
            waiting.update(lane.partitions_to_hold)
        for partition in waiting - self._held:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), math.inf)
        for partition in self._held - waiting:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), None)
        self._held = waiting

    # 3. Its sink has answered: the outcome is settled, and the target judged by it.

    def _settle_results(self) -> None:
        results = self._lanes.pending_results()
        while results:
            result = results.popleft()
            match result:
                case Completed():
                    self._settle(result)
                case Recalled():
                    self._put_back(result)
                case _ as never:
                    assert_never(never)
        self._lanes.close_drained()
        self._tally.publish()

    def _settle(self, completed: Completed) -> None:
        """Turns the outcomes of one call into verdicts, waits or dead letters, and changes of the target's state."""
        lane, outcomes = completed.lane, completed.outcomes
        now, monotonic = self._clock.now(), self._clock.monotonic()
        lane.complete(completed.batch, outcomes, monotonic)
        settlements = [
            settle(
                claimed.delivery, outcome, lane.target.retry, at=completed.at, took=completed.took, now=now
            )
            for claimed, outcome in zip(completed.batch, outcomes, strict=True)
        ]
        for claimed, settlement in zip(completed.batch, settlements, strict=True):
            self._pending.settle(lane, claimed, settlement)
        judgement = judge(lane, outcomes, settlements, self._states, now=now, monotonic=monotonic)
        state_records = judgement.apply(lane, self._states)
        if state_records:
            self._pending.append(state_records)
            self._follow_state(lane)
        self._tally.add(lane.target.id, outcomes, settlements)

    def _put_back(self, recalled: Recalled) -> None:
        """Returns deliveries that were not attempted to their lane; drops those of partitions that are not ours now."""
        lane, batch = recalled.lane, recalled.batch
        lane.put_back(batch)
        revoked = {claimed.position.partition for claimed in batch if not self._parking.owns(claimed)}
        if revoked:
            self._uncommitted -= lane.drop_partitions(revoked)
        for claimed in batch:
            self._pending.put_back(lane, claimed)
        if self._lanes.is_current(lane):
            self._backlogged.add(lane)
        else:
            self._place_all(lane.take_all())

    # 4. It is committed, with its verdict or its next wait.

    def _commit(self) -> None:
        """Commits all settled deliveries. If that fails, keeps them, and nothing is sent until a commit succeeds."""
        self._uncommitted -= self._pending.commit(self._consumer)

    # Partitions are assigned to this process and revoked.

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        self._parking.load_partitions([partition.partition for partition in partitions])

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Commits the settled deliveries while the partitions are still ours; drops their waiting deliveries."""
        try:
            self._settle_results()
            self._commit()
        except BusError as error:
            _log.warning("commit before a rebalance failed, trying again later", problem=str(error))
        revoked = frozenset(partition.partition for partition in partitions)
        kept = [claimed for claimed in self._unplaced if claimed.position.partition not in revoked]
        self._uncommitted -= self._lanes.drop_partitions(revoked) + len(self._unplaced) - len(kept)
        self._unplaced = kept
        self._parking.drop_partitions(revoked)
        for lane in self._lanes:
            self._lanes.recall(lane)


def _is_expired(claimed: ClaimedDelivery, expires: float, now: int) -> bool:
    """Returns True if the event is older than its target accepts. A redriven delivery never expires."""
    delivery = claimed.delivery
    return not delivery.redrive and now - delivery.event_time > expires * 1000

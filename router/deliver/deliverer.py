"""The role that delivers: poll, hand to the lane of the target, turn outcomes into records, commit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import structlog

from heliograph.bus.base import Bus, Consumer, Polled
from heliograph.bus.gaps import report_gaps
from router.configuration import Configuration
from router.deliver.endings import Endings
from router.deliver.judgement import judge
from router.deliver.lane import Completion, Lane, Returned
from router.deliver.lanes import Lanes
from router.deliver.parking import Parking
from router.deliver.settle import Again, put_off, settle
from router.deliver.tally import Tally
from router.deliver.target_states import Closed, Open, Suspended, TargetStates
from router.deliver.waiting import Parcel
from schemas.clock import Clock
from schemas.delivery import (
    Exhausted,
    Reason,
    ReasonCode,
    Retry,
    read_delivery,
)
from schemas.errors import BusError
from schemas.metrics import DEFERRED, TARGET_STATE
from schemas.record import Record, TopicPartition
from schemas.role import ConsumerRole
from schemas.target_state import GRAVITY, TargetStatus
from schemas.topics import DEAD_LETTERS, DELIVERIES, PARKED, REJECTS
from schemas.topics import VERDICTS as VERDICTS_TOPIC
from sinks.base import SinkContext, SinkKind

LIMIT = 1000
"""Records of one poll. A partition of which anything waits here is not read on, so this bounds what waits."""

_LOOK_AGAIN_SECONDS = 0.1
_FOLLOW_SECONDS = 0.5
_SHORT_PAUSE_MS = 1000
"""A target that is held back no longer than this has its deliveries wait where they are."""
_MISSING_SECONDS = 30.0
"""How long a configuration is waited for that a delivery names and the log does not have. Every log shows what was
appended sooner; one that does not has lost it, and must not hold up a partition for ever."""
_TARGETLESS = Reason(ReasonCode.NO_TARGET, "the target was deleted")
_log = structlog.get_logger()


class Deliverer(ConsumerRole[Consumer]):
    """Every record of `deliveries` ends as a verdict, on the wheel, parked, or among the dead letters; only then is it
    done.

    What a subscription matched before it was disabled or deleted still goes out: it was promised. Only a delivery
    whose target no subscription has any more becomes a dead letter.
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
        self._endings = Endings(self._parking, clock)
        self._configuration.refresh()
        self._targets = self._configuration.read_targets()
        self._states.refresh()
        self._followed_at = clock.monotonic()
        self._missing_since: float | None = None
        self._pressed: set[Lane] = set()
        self._ahead: list[Parcel] = []
        self._held: set[int] = set()
        self._outstanding = 0
        self._tally = Tally()
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._lost)
        self._lanes = Lanes(kinds, sink_context, clock, self._consumer.wake)

    def step(self, timeout: float) -> None:
        """Take in what has come, settle what has ended, hand out what there is room for, and commit while it is sent."""
        self._commit()  # what the step before could not store: until it is, nothing more is sent
        self._accept(self._consumer.poll(LIMIT, self._patience(timeout)))
        self._bring_out_parked()
        heard = self._lanes.heard()
        self._take_reports()
        self._hand_out(heard)
        self._commit()

    def busy(self) -> bool:
        """Whether anything was polled and is not committed as ended, or is parked and due."""
        return self._outstanding > 0 or self._parking.busy(self._clock.now())

    def close(self) -> None:
        """Wait some seconds for what is in flight and commit it; the rest is for the next owner."""
        try:
            self._lanes.close()
            self._take_reports()
            self._commit()
        finally:
            self._consumer.close()

    # What has ended.

    def _take_reports(self) -> None:
        for report in self._lanes.reports():
            match report:
                case Completion():
                    self._settle(report)
                case Returned():
                    self._take_back(report)
                case _ as never:
                    assert_never(never)
        self._tally.show()

    def _take_back(self, returned: Returned) -> None:
        """Let what was not tried wait again, unless it is another member's by now."""
        lane, parcels = returned.lane, returned.parcels
        lane.returned(parcels)
        gone = {one.position.partition for one in parcels if not self._parking.owns(one)}
        if gone:
            self._outstanding -= lane.forget(gone)
        for one in parcels:
            self._endings.take_back(lane, one)
        if self._lanes.has(lane):
            self._pressed.add(lane)
        else:
            self._place_all(lane.clear())

    def _settle(self, completion: Completion) -> None:
        """Outcomes of one call of a sink, as records."""
        lane, outcomes, now = completion.lane, completion.outcomes, self._clock.now()
        policy, monotonic = lane.target.retry, self._clock.monotonic()
        answered = any(not isinstance(outcome, Retry) for outcome in outcomes)
        lane.ended(completion.parcels, answered=answered, now=monotonic)
        settlements = [
            settle(parcel.delivery, outcome, policy, completion.at, completion.took, now)
            for parcel, outcome in zip(completion.parcels, outcomes, strict=True)
        ]
        for parcel, settlement in zip(completion.parcels, settlements, strict=True):
            self._endings.conclude(lane, parcel, settlement)
        records = list(judge(lane, outcomes, settlements, self._states, now, monotonic))
        if records:
            self._endings.follow(records)
            self._heed(lane)
        self._tally.add(lane.target.id, outcomes, settlements)

    def _commit(self) -> None:
        """One commit for all that has ended. If it fails all of it is kept, and nothing more is sent meanwhile."""
        self._outstanding -= self._endings.commit(self._consumer)

    # What is known of targets.

    def _follow(self, wanted: int) -> None:
        """Read configuration and states at least twice a second, and at once when a delivery was matched under a later
        configuration."""
        now = self._clock.monotonic()
        if wanted > self._configuration.version or now - self._followed_at >= _FOLLOW_SECONDS:
            self._followed_at = now
            self._states.refresh()
            for lane in self._lanes:
                self._heed(lane)
            if self._configuration.refresh():
                self._missing_since = None
                self._targets = self._configuration.read_targets()
                self._place_all(self._lanes.follow(self._targets))
        if not self._ahead and self._missing_since != -math.inf:
            self._missing_since = None
        ahead, self._ahead = self._ahead, []
        self._place_all(sorted(ahead, key=lambda parcel: parcel.position))

    def _heed(self, lane: Lane) -> None:
        """Call back what a lane has handed out and may not send, and show how its target stands: that changes with time
        alone, too."""
        target, now = lane.target.id, self._clock.now()
        if not isinstance(self._states.gate(target, now), Open):
            self._lanes.recall(lane)
        condition = self._states.gravest(target, now)
        TARGET_STATE.labels(target).set(GRAVITY[condition.status if condition else TargetStatus.ACTIVE])

    # What has come.

    def _accept(self, polled: Polled) -> None:
        """Read records as deliveries and give each its place."""
        report_gaps(self.name, polled.gaps)
        self._outstanding += len(polled.records)
        parcels = [parcel for parcel in map(self._read, polled.records) if parcel is not None]
        self._follow(max((parcel.delivery.configuration for parcel in parcels), default=0))
        self._place_all(parcels)

    def _read(self, record: Record) -> Parcel | None:
        try:
            return Parcel(record.position, read_delivery(record))
        except (KeyError, ValueError) as error:
            _log.error("not a delivery", position=str(record.position), problem=repr(error))
            self._endings.reject(record, f"not a delivery: {error!r}", self.name)
            return None

    def _place_all(self, parcels: Iterable[Parcel]) -> None:
        now = self._clock.now()
        for parcel in parcels:
            self._place(parcel, now)

    def _place(self, parcel: Parcel, now: int) -> None:
        delivery, configuration = parcel.delivery, self._configuration
        target = self._targets.get(delivery.target)
        if (delivery.configuration > configuration.version and self._is_to_come(delivery.configuration)) or (
            target is not None and target.ordered and self._lanes.drains(target)
        ):
            self._put_aside(parcel, now)
        elif target is None:
            self._endings.bury(parcel, _TARGETLESS, Exhausted.NO_TARGET)
        elif target.expires is not None and _is_late(parcel, target.expires, now):
            self._endings.expire(parcel, now)
        elif target.ordered and parcel.position.topic == DELIVERIES and self._parking.holds(delivery):
            self._endings.keep(parcel)
        else:
            lane = self._lanes.of(target, delivery.lane)
            lane.put(parcel)
            self._pressed.add(lane)

    def _is_to_come(self, version: int) -> bool:
        """Whether a later configuration is waited for; once one was waited for in vain, none is until another comes."""
        now = self._clock.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since < _MISSING_SECONDS:
            return True
        if self._missing_since > -math.inf:
            self._missing_since = -math.inf
            known = self._configuration.version
            _log.error("subscriptions are older than deliveries, and used all the same", at=known, of=version)
        return False

    def _put_aside(self, parcel: Parcel, now: int) -> None:
        """Give it a place later: what a later configuration says of it is not known yet, or calls with the settings
        before have not ended."""
        if parcel.position.topic == PARKED:
            self._parking.back(parcel, now)
        else:
            self._ahead.append(parcel)

    def _bring_out_parked(self) -> None:
        """Put heads whose time has come into their lanes; what may not go out yet comes again when it may."""
        now = self._clock.now()
        for parcel in list(self._parking.due(now)):
            gate = self._states.gate(parcel.delivery.target, now)
            if isinstance(gate, Closed):
                self._parking.back(parcel, gate.until)
            else:
                self._place(parcel, now)

    # What goes out.

    def _hand_out(self, heard: float) -> None:
        """Give every lane what it has room for; what it cannot take for longer goes to the wheel, or is parked.

        `heard`: up to when lanes are judged, in seconds of the monotonic clock.
        """
        now, monotonic, room = self._clock.now(), self._clock.monotonic(), self._lanes.room
        handed: list[tuple[Lane, list[Parcel]]] = []
        for lane in self._pressed:
            match self._states.gate(lane.target.id, now):
                case Suspended(why=why):
                    self._suspend(lane, why)
                    continue
                case Closed(until=until):
                    if until - now > _SHORT_PAUSE_MS:
                        self._put_off(lane, now, until)
                    continue
                case Open(probe=probe):
                    parcels = lane.probe(monotonic) if probe else lane.take(monotonic, room)
                case _ as never:
                    assert_never(never)
            if parcels:
                handed.append((lane, parcels))
            self._relieve(lane, now, heard, probing=probe)
        self._pressed = {lane for lane in self._pressed if lane.waiting}
        self._lanes.send(handed)
        self._hold()

    def _relieve(self, lane: Lane, now: int, heard: float, *, probing: bool) -> None:
        """Put off what a lane will not take soon: it probes, is at its rate, or does not move."""
        if not lane.waiting:
            return
        if probing or (lane.rate is not None and lane.full):
            self._put_off(lane, now)
            return
        if lane.newly_stuck(heard):
            _log.warning("target does not answer, deliveries are put off", target=lane.target.id)
        if lane.stuck:
            self._put_off(lane, now)

    def _put_off(self, lane: Lane, now: int, until: int = 0) -> None:
        """Have everything that waits in a lane come again later: at `until`, or when its rate has room."""
        parcels = lane.clear()
        DEFERRED.labels(lane.target.id).inc(len(parcels))
        for parcel in parcels:
            not_before = lane.slot(now) if lane.rate is not None and not until else until
            settlement = put_off(parcel.delivery, lane.target.retry, now, not_before)
            if isinstance(settlement, Again) and parcel.position.topic == PARKED:
                wait = settlement.delivery.wait
                self._parking.back(parcel, wait.due if wait is not None else now)
            else:
                self._endings.conclude(lane, parcel, settlement)

    def _suspend(self, lane: Lane, why: str) -> None:
        reason = Reason(ReasonCode.SUSPENDED, why)
        for parcel in (*lane.clear(), *self._parking.of(lane.target.id)):
            self._endings.bury(parcel, reason, Exhausted.SUSPENDED)

    def _hold(self) -> None:
        """Read nothing more of a partition while anything of it waits here."""
        waiting = {parcel.position.partition for parcel in self._ahead}
        for lane in self._pressed:
            waiting.update(lane.holds)
        for partition in waiting - self._held:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), math.inf)
        for partition in self._held - waiting:
            self._consumer.hold(TopicPartition(DELIVERIES, partition), None)
        self._held = waiting

    def _patience(self, timeout: float) -> float:
        waits = self._pressed or self._ahead or self._parking.targets()
        return min(timeout, _LOOK_AGAIN_SECONDS) if waits else timeout

    # What is ours.

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        self._parking.gained([partition.partition for partition in partitions])

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what has ended while the partitions are still ours; forget what waits of them."""
        try:
            self._take_reports()
            self._commit()
        except BusError as error:
            _log.warning("what ended is committed later", problem=str(error))
        gone = frozenset(partition.partition for partition in partitions)
        kept = [parcel for parcel in self._ahead if parcel.position.partition not in gone]
        self._outstanding -= self._lanes.forget(gone) + len(self._ahead) - len(kept)
        self._ahead = kept
        self._parking.lost(gone)
        for lane in self._lanes:
            self._lanes.recall(lane)


def _is_late(parcel: Parcel, expires: float, now: int) -> bool:
    """Whether the event is older than its target wants. Who redrives a delivery wants it all the same."""
    delivery = parcel.delivery
    return not delivery.redrive and now - delivery.event_time > expires * 1000

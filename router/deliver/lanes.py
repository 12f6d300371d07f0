"""The lanes of a process: opened when first needed, replaced when their target's settings change."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from router.deliver.lane import BYTES_LIMIT, Lane, SendResult
from router.deliver.queues import ClaimedDelivery
from router.deliver.sender import Sender
from router.deliver.sink_loop import SinkLoop
from schemas.clock import Clock
from schemas.errors import InputError
from schemas.subscription import Target
from sinks.base import Sink, SinkContext, SinkKind

CLOSING_SECONDS = 5.0
"""Seconds that `close` waits for deliveries in flight."""
ALL_BYTES_LIMIT = 256 * 1024 * 1024
"""Bytes of events in flight in all lanes together: a thousand targets that hang must not each fill the limit of a
lane."""
SMALLEST_BYTES = 512 * 1024
"""Bytes of events that a lane may have in flight, however many lanes there are."""
_UNKNOWN_KIND_BATCH = 500
_log = structlog.get_logger()


class Lanes:
    """Opens and retires lanes, and runs their senders on the loop of the sinks.

    `wake` is called from the loop's thread when the first result comes after a call of `pending_results`.
    """

    def __init__(
        self,
        kinds: Mapping[str, SinkKind],
        sink_context: SinkContext,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._kinds = kinds
        self._sink_context = sink_context
        self._clock = clock
        self._wake = wake
        self._loop = SinkLoop()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._senders: dict[Lane, Sender] = {}
        self._retired: set[Lane] = set()
        self._results: deque[SendResult] = deque()
        self._woken = False
        self._answers_read_at = clock.monotonic()
        self._asked_loop = False

    @property
    def bytes_limit(self) -> int:
        """Bytes of events that each lane may have in flight."""
        return max(SMALLEST_BYTES, min(BYTES_LIMIT, ALL_BYTES_LIMIT // max(1, len(self._lanes))))

    def find_or_open(self, target: Target, number: int) -> Lane:
        """Returns a lane of a target. A number beyond the target's lanes is taken modulo their count."""
        place = (target.id, number % target.lanes)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = self._open(target, place[1])
        return lane

    def is_current(self, lane: Lane) -> bool:
        """True if no change of settings has replaced the lane."""
        return self._lanes.get((lane.target.id, lane.number)) is lane

    def is_draining(self, target: Target) -> bool:
        """True if a lane with earlier settings of the target has deliveries in flight."""
        return any(lane.target.id == target.id for lane in self._retired)

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._lanes.values()))

    def replace(self, targets: Mapping[str, Target]) -> list[ClaimedDelivery]:
        """Retires lanes whose target is deleted or changed; returns the deliveries that waited in them."""
        waiting: list[ClaimedDelivery] = []
        for place, lane in list(self._lanes.items()):
            if targets.get(lane.target.id) != lane.target:
                del self._lanes[place]
                waiting += lane.take_all()
                self._retired.add(lane)
                self.recall(lane)
        self.close_drained()
        return waiting

    def send(self, batches: Sequence[tuple[Lane, Sequence[ClaimedDelivery]]]) -> None:
        """Hands deliveries to their senders, in one call of the loop."""
        if batches:
            self._loop.call(partial(_enqueue, [(self._senders[lane], batch) for lane, batch in batches]))

    def recall(self, lane: Lane) -> None:
        """Recalls deliveries in flight that were not passed to the sink yet; they come back as `Recalled`."""
        sender = self._senders.get(lane)
        if sender is not None and lane.in_flight:
            self._loop.call(sender.recall)

    def pending_results(self) -> deque[SendResult]:
        """Returns the queue of results, which the caller empties. The next result calls `wake` again."""
        self._woken = False
        return self._results

    def close_drained(self) -> None:
        """Closes the senders of retired lanes that have nothing in flight."""
        for lane in [lane for lane in self._retired if not lane.in_flight]:
            self._retired.remove(lane)
            sender = self._senders.pop(lane)
            self._loop.spawn(sender.close(0.0))

    def answers_read_at(self) -> float:
        """Returns the time up to which all answers are among the results, in seconds of the monotonic clock.

        It falls behind while the loop is slow, so that a slow loop does not make a target count as stuck.
        """
        if not self._asked_loop:
            self._asked_loop = True
            self._loop.call_after_reading(partial(self._note_answers_read, self._clock.monotonic()))
        return self._answers_read_at

    def drop_partitions(self, partitions: frozenset[int]) -> int:
        """Removes the waiting deliveries of these partitions; returns how many were records of `deliveries`."""
        return sum(lane.drop_partitions(partitions) for lane in self._lanes.values())

    def close(self) -> None:
        """Waits some seconds for deliveries in flight, closes every sink, stops the loop."""
        closing = self._loop.spawn(self._close_senders())
        try:
            closing.result(2 * CLOSING_SECONDS)
        except TimeoutError:
            _log.error("sinks did not close in time")
        self._lanes.clear()
        self._senders.clear()
        self._retired.clear()
        self._loop.close()

    def _open(self, target: Target, number: int) -> Lane:
        kind = self._kinds.get(target.kind)
        batch = target.batch or (kind.batch if kind else _UNKNOWN_KIND_BATCH)
        lane = Lane(target, number, batch, self._clock.monotonic())
        self._senders[lane] = Sender(lane, partial(self._build, target), self._publish, self._clock)
        return lane

    def _build(self, target: Target) -> Sink:
        kind = self._kinds.get(target.kind)
        if kind is None:
            raise InputError(f"kind {target.kind!r}: expected one of {', '.join(sorted(self._kinds))}")
        return kind.build(kind.settings.model_validate(target.settings), self._sink_context)

    def _publish(self, result: SendResult) -> None:
        self._results.append(result)
        if not self._woken:
            self._woken = True
            self._wake()

    def _note_answers_read(self, at: float) -> None:
        self._answers_read_at = at
        self._asked_loop = False

    async def _close_senders(self) -> None:
        await asyncio.gather(*(sender.close(CLOSING_SECONDS) for sender in self._senders.values()))


def _enqueue(batches: Sequence[tuple[Sender, Sequence[ClaimedDelivery]]]) -> None:
    for sender, batch in batches:
        sender.enqueue(batch)

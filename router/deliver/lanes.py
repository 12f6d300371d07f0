"""The lanes of a process, kept in step with the configuration."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from router.deliver.lane import BYTES_LIMIT, Lane, Report
from router.deliver.sender import Sender
from router.deliver.sink_loop import SinkLoop
from router.deliver.waiting import Parcel
from schemas.clock import Clock
from schemas.errors import InputError
from schemas.subscription import Target
from sinks.base import Sink, SinkContext, SinkKind

CLOSING_SECONDS = 5.0
"""How long `close` waits for what is in flight."""
ALL_BYTES_LIMIT = 256 * 1024 * 1024
SMALLEST_BYTES = 512 * 1024
"""Bytes of events in flight: in all lanes together, and what each has however many there are. Else a thousand targets
that hang would hold as many times what one may hold."""
_UNKNOWN_KIND_BATCH = 500
_log = structlog.get_logger()


class Lanes:
    """Makes lanes when they are first needed, replaces one when its target's settings change, sends on its loop.

    `wake` is called, from the loop's thread, when the first report comes after the last `reports`.
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
        self._reports: deque[Report] = deque()
        self._signalled = False
        self._heard = clock.monotonic()
        self._listening = False

    @property
    def room(self) -> int:
        """Bytes of events that each lane may have in flight."""
        return max(SMALLEST_BYTES, min(BYTES_LIMIT, ALL_BYTES_LIMIT // max(1, len(self._lanes))))

    def of(self, target: Target, number: int) -> Lane:
        """A lane of a target; the numbers of more lanes than it has now begin anew."""
        place = (target.id, number % target.lanes)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = self._open(target, place[1])
        return lane

    def has(self, lane: Lane) -> bool:
        """Whether it still is the lane of its target."""
        return self._lanes.get((lane.target.id, lane.number)) is lane

    def drains(self, target: Target) -> bool:
        """Whether a lane that the target had before its settings changed still has something in flight."""
        return any(lane.target.id == target.id for lane in self._retired)

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._lanes.values()))

    def follow(self, targets: Mapping[str, Target]) -> list[Parcel]:
        """Retire the lanes of targets that are gone or changed; returns what waited in them and needs a new place."""
        homeless: list[Parcel] = []
        for place, lane in list(self._lanes.items()):
            if targets.get(lane.target.id) != lane.target:
                del self._lanes[place]
                homeless += lane.clear()
                self._retired.add(lane)
                self.recall(lane)
        self._close_retired()
        return homeless

    def send(self, handed: Sequence[tuple[Lane, Sequence[Parcel]]]) -> None:
        """Hand deliveries to the loop, all in one call."""
        if handed:
            self._loop.call(partial(_hand_over, [(self._senders[lane], parcels) for lane, parcels in handed]))

    def recall(self, lane: Lane) -> None:
        """Have the loop report what it was handed and has not begun with; nothing once we are closed."""
        sender = self._senders.get(lane)
        if sender is not None and lane.in_flight:
            self._loop.call(sender.recall)

    def reports(self) -> Iterator[Report]:
        """What has ended, or was called back, since the last time."""
        self._signalled = False
        while self._reports:
            yield self._reports.popleft()
        self._close_retired()

    def heard(self) -> float:
        """Up to when all answers that came are among the reports, in seconds of the monotonic clock. Behind while the
        loop is slow, for which no target is to blame."""
        if not self._listening:
            self._listening = True
            self._loop.call_after_reading(partial(self._hear, self._clock.monotonic()))
        return self._heard

    def forget(self, partitions: frozenset[int]) -> int:
        """Drop what waits from these partitions; returns how many of `deliveries` that were."""
        return sum(lane.forget(partitions) for lane in self._lanes.values())

    def close(self) -> None:
        """Wait a few seconds for what is in flight, let go of every sink, stop the loop."""
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
        self._senders[lane] = Sender(lane, partial(self._build, target), self._report, self._clock)
        return lane

    def _build(self, target: Target) -> Sink:
        kind = self._kinds.get(target.kind)
        if kind is None:
            raise InputError(f"kind {target.kind!r}: expected one of {', '.join(sorted(self._kinds))}")
        return kind.build(kind.settings.model_validate(target.settings), self._sink_context)

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        if not self._signalled:
            self._signalled = True
            self._wake()

    def _hear(self, until: float) -> None:
        self._heard = until
        self._listening = False

    def _close_retired(self) -> None:
        for lane in [lane for lane in self._retired if not lane.in_flight]:
            self._retired.remove(lane)
            sender = self._senders.pop(lane)
            self._loop.spawn(sender.close(0.0))

    async def _close_senders(self) -> None:
        await asyncio.gather(*(sender.close(CLOSING_SECONDS) for sender in self._senders.values()))


def _hand_over(handed: Sequence[tuple[Sender, Sequence[Parcel]]]) -> None:
    for sender, parcels in handed:
        sender.take(parcels)

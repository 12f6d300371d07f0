"""The lanes of a process, one per target, kept in step with the configuration."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from router.deliver.lane import BYTES_LIMIT, Completion, Lane, Parcel
from router.deliver.sender import Sender
from router.deliver.sink_loop import SinkLoop
from schemas.clock import Clock
from schemas.errors import InputError
from schemas.subscription import Target
from sinks.base import Sink, SinkKind, Surroundings

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

    `wake` is called, from the loop's thread, when the first completion comes after the last `completions`.
    """

    def __init__(
        self,
        kinds: Mapping[str, SinkKind],
        surroundings: Surroundings,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._kinds = kinds
        self._surroundings = surroundings
        self._clock = clock
        self._wake = wake
        self._loop = SinkLoop()
        self._lanes: dict[str, Lane] = {}
        self._senders: dict[Lane, Sender] = {}
        self._retired: set[Lane] = set()
        self._completed: deque[Completion] = deque()
        self._signalled = False

    @property
    def room(self) -> int:
        """Bytes of events that each lane may have in flight."""
        return max(SMALLEST_BYTES, min(BYTES_LIMIT, ALL_BYTES_LIMIT // max(1, len(self._lanes))))

    def of(self, target: Target) -> Lane:
        """The lane of a target."""
        lane = self._lanes.get(target.id)
        if lane is None:
            lane = self._lanes[target.id] = self._open(target)
        return lane

    def follow(self, targets: Mapping[str, Target]) -> list[Parcel]:
        """Retire the lanes of targets that are gone or changed; returns what waited in them and needs a new place."""
        homeless: list[Parcel] = []
        for lane in list(self._lanes.values()):
            if targets.get(lane.target.id) != lane.target:
                del self._lanes[lane.target.id]
                homeless += lane.clear()
                self._retired.add(lane)
        self._close_retired()
        return homeless

    def send(self, handed: Sequence[tuple[Lane, Sequence[Parcel]]]) -> None:
        """Hand deliveries to the loop, all in one call."""
        if handed:
            self._loop.call(partial(_hand_over, [(self._senders[lane], parcels) for lane, parcels in handed]))

    def completions(self) -> Iterator[Completion]:
        """What has ended since the last time."""
        self._signalled = False
        while self._completed:
            yield self._completed.popleft()
        self._close_retired()

    def forget(self, partitions: frozenset[int]) -> int:
        """Drop what waits from these partitions; returns how many that were."""
        return sum(lane.forget(partitions) for lane in self._lanes.values())

    def close(self) -> None:
        """Wait a few seconds for what is in flight, let go of every sink, stop the loop."""
        closing = self._loop.spawn(self._close_senders())
        try:
            closing.result(2 * CLOSING_SECONDS)
        except TimeoutError:
            _log.error("sinks did not close in time")
        self._retired.clear()
        self._loop.close()

    def _open(self, target: Target) -> Lane:
        kind = self._kinds.get(target.kind)
        batch = target.batch or (kind.batch if kind else _UNKNOWN_KIND_BATCH)
        lane = Lane(target, batch, self._clock.monotonic())
        self._senders[lane] = Sender(lane, partial(self._build, target), self._report, self._clock)
        return lane

    def _build(self, target: Target) -> Sink:
        kind = self._kinds.get(target.kind)
        if kind is None:
            raise InputError(f"kind {target.kind!r}: expected one of {', '.join(sorted(self._kinds))}")
        return kind.build(kind.settings.model_validate(target.settings), self._surroundings)

    def _report(self, completion: Completion) -> None:
        self._completed.append(completion)
        if not self._signalled:
            self._signalled = True
            self._wake()

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

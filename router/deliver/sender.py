"""The half of a lane that sends: workers on the loop of the sinks, each with one batch at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from pydantic import ValidationError

from router.deliver.breaker import stops_sending
from router.deliver.bucket import Bucket
from router.deliver.lane import Completed, Lane, Recalled, SendResult
from router.deliver.queues import ClaimedDelivery
from schemas.clock import Clock
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import HeliographError
from schemas.metrics import ATTEMPT_SECONDS
from schemas.problems import without_values
from sinks.base import Sink

_REBUILD_SECONDS = 10.0
_SINK_CLOSING_SECONDS = 2.0
_OUTCOMES = {Delivered, Retry, Rejected}
_log = structlog.get_logger()


class Sender:
    """Sends the deliveries of its lane in batches, `concurrency` at once, at its rate. Every method runs on the loop.

    `build` builds the sink when the first delivery comes. If it raises, deliveries are retried as misconfigured, and
    the sink is built again after ten seconds. `publish` gets the results.
    """

    def __init__(
        self, lane: Lane, build: Callable[[], Sink], publish: Callable[[SendResult], None], clock: Clock
    ) -> None:
        self._lane = lane
        self._build = build
        self._publish = publish
        self._clock = clock
        self._bucket = Bucket(lane.rate, clock.monotonic()) if lane.rate is not None else None
        self._queue: deque[ClaimedDelivery] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._sink: Sink | None = None
        self._broken: Reason | None = None
        self._rebuild_at = 0.0
        self._stopping = False
        self._seconds = ATTEMPT_SECONDS.labels(lane.target.id)

    def enqueue(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Queues deliveries, and starts workers up to the lane's concurrency."""
        self._queue.extend(batch)
        wanted = -(-len(self._queue) // self._lane.batch)
        # A finished worker may still be in the set.
        running = sum(not worker.done() for worker in self._workers)
        for _ in range(min(wanted, self._lane.concurrency - running)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def recall(self) -> None:
        """Publishes the queued deliveries as `Recalled`. Calls that have begun continue."""
        batch = list(self._queue)
        self._queue.clear()
        if batch:
            self._publish(Recalled(lane=self._lane, batch=batch))

    async def close(self, patience: float) -> None:
        """Starts no more calls, waits up to `patience` seconds for running calls, closes the sink."""
        self._queue.clear()
        if self._workers:
            await asyncio.wait(self._workers, timeout=patience)
        self._stopping = True
        for worker in self._workers:
            worker.cancel()
        if self._sink is None:
            return
        try:
            await asyncio.wait_for(self._sink.close(), _SINK_CLOSING_SECONDS)
        except Exception:  # noqa: BLE001 - one sink must not keep the others from closing
            _log.exception("sink did not close", target=self._lane.target.id)

    async def _work(self) -> None:
        while self._queue:
            size = min(self._lane.batch, len(self._queue))
            if self._bucket is not None:
                size = await self._wait_for_tokens(self._bucket, size)
            batch = [self._queue.popleft() for _ in range(min(size, len(self._queue)))]
            if not batch:  # recalled while this worker waited for tokens
                return
            at, began = self._clock.now(), self._clock.monotonic()
            outcomes = await self._attempt([claimed.delivery for claimed in batch])
            took = self._clock.monotonic() - began
            self._seconds.observe(took)
            self._publish(Completed(lane=self._lane, batch=batch, outcomes=outcomes, at=at, took=took))
            if any(map(stops_sending, outcomes)):
                self.recall()

    async def _wait_for_tokens(self, bucket: Bucket, wanted: int) -> int:
        """Waits until the rate allows at least one delivery; returns how many it allows, at most `wanted`."""
        while True:
            taken = bucket.take(wanted, self._clock.monotonic())
            if taken:
                return taken
            await asyncio.sleep(bucket.wait())

    async def _attempt(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """Calls the sink; returns one outcome for each delivery, whatever the sink does."""
        sink = self._ready_sink()
        if isinstance(sink, Reason):
            return [Retry(sink)] * len(batch)
        limit = self._lane.target.time_limit
        time = asyncio.timeout(limit)
        try:
            async with time:
                return _checked(await sink.deliver(batch), len(batch))
        except (Exception, asyncio.CancelledError) as error:
            if self._stopping:
                raise
            if time.expired():
                reason = Reason(
                    ReasonCode.TIMED_OUT, f"no outcome within the target's time limit of {limit:g} s"
                )
                return [Retry(reason)] * len(batch)
            _log.exception("sink raised", target=self._lane.target.id, kind=self._lane.target.kind)
            return [Retry(Reason(ReasonCode.BUG, f"the sink raised {type(error).__name__}"))] * len(batch)

    def _ready_sink(self) -> Sink | Reason:
        if self._sink is not None:
            return self._sink
        if self._broken is not None and self._clock.monotonic() < self._rebuild_at:
            return self._broken
        try:
            self._sink = self._build()
        except Exception as error:  # noqa: BLE001 - a kind may fail in ways of its own; only its target suffers
            self._broken = Reason(ReasonCode.MISCONFIGURED, _problem(error))
            self._rebuild_at = self._clock.monotonic() + _REBUILD_SECONDS
            _log.error("sink cannot be built", target=self._lane.target.id, problem=self._broken.detail)
            return self._broken
        return self._sink


def _checked(outcomes: Sequence[Outcome], wanted: int) -> list[Outcome]:
    """Returns the outcomes; raises TypeError if their number or types are wrong, as sinks may be third-party code."""
    listed = list(outcomes)
    if len(listed) != wanted or not {type(outcome) for outcome in listed} <= _OUTCOMES:
        raise TypeError(
            f"the sink returned {len(listed)} values for {wanted} deliveries; expected one Outcome for each"
        )
    return listed


def _problem(error: Exception) -> str:
    """Returns the error in one line, without the values of settings: they may be secret."""
    if isinstance(error, ValidationError):
        return without_values(error)
    return str(error) if isinstance(error, HeliographError) else f"{type(error).__name__}: {error}"

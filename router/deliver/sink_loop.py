"""The asyncio loop of the sinks, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

_JOIN_SECONDS = 5.0


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class SinkLoop:
    """Runs a loop from construction to `close`. Other threads may call every method."""

    def __init__(self) -> None:
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="sinks", daemon=True)
        self._thread.start()
        self._loop = self._started.result()
        self._stopping = False
        self._begun: set[Future[None]] = set()

    def call(self, work: Callable[[], None]) -> None:
        """Calls `work` on the loop soon."""
        self._loop.call_soon_threadsafe(work)

    def call_after_reading(self, work: Callable[[], None]) -> None:
        """Calls `work` on the loop after it has read everything that its sockets held before this call."""
        self._loop.call_soon_threadsafe(self._loop.call_soon, work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Starts a coroutine on the loop."""
        begun = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)
        return begun

    def close(self) -> None:
        """Stops the loop and cancels its coroutines. Does not wait for a thread of a sink that hangs."""
        if not self._stopping:
            self._stopping = True
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stop.wait()

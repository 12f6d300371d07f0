"""Kind `python`: calls a function of the user, `handler(event: bytes, context)` as in Function Compute, in a worker
process that is killed when a call exceeds its time limit."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.delivery import Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.policy import Duration
from sinks.base import CLOSED, SinkContext, SinkKind
from sinks.function.process import END_LIMIT, Worker, WorkerFailed

DEFAULT_FUNCTION = "handler"
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII)


class FunctionSettings(BaseModel):
    """`function`: `module:name`, or `module` for its `handler`; `timeout`: seconds that a call may take; `workers`:
    processes, each of which runs one call at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str
    timeout: Duration = Field(default=60.0, gt=0, le=3600)
    workers: int = Field(default=1, ge=1, le=32)

    @field_validator("function")
    @classmethod
    def _named(cls, function: str) -> str:
        if not _NAME.fullmatch(function):
            raise ValueError(f"{function!r} is not module:function, as in audit.changes:handler")
        return function if ":" in function else f"{function}:{DEFAULT_FUNCTION}"

    @property
    def module(self) -> str:
        """Name of the module that holds the function."""
        return self.function.partition(":")[0]


class FunctionSink:
    """Passes each delivery to an idle worker, and starts a worker if none is idle."""

    def __init__(self, settings: FunctionSettings, context: SinkContext) -> None:
        self._settings = settings
        self._permitted = is_permitted(settings.module, context.function_modules)
        self._folder = context.function_path
        self._threads = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="function")
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Calls the function; its return value is the receipt."""
        if self._closed:
            return [CLOSED] * len(batch)
        if not self._permitted:
            return [Rejected(_not_permitted(self._settings.module))] * len(batch)
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(self._threads, self._call, one) for one in batch))

    async def close(self) -> None:
        """Ends every worker; the outcome of a running call is a retry."""
        with self._lock:
            self._closed = True
            idle, busy = [*self._idle], [*self._busy]
            self._idle.clear()
        for worker in busy:
            worker.end()
        await asyncio.gather(*(asyncio.to_thread(worker.end, END_LIMIT) for worker in idle))
        self._threads.shutdown(wait=False)

    def _call(self, delivery: Delivery) -> Outcome:
        try:
            worker = self._take()
        except WorkerFailed as failure:
            return Retry(failure.reason)
        try:
            outcome = worker.call(delivery, self._settings.timeout)
        except WorkerFailed as failure:
            self._give_back(worker, usable=False)
            return Retry(failure.reason)
        self._give_back(worker, usable=True)
        return outcome

    def _take(self) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or Worker(self._settings.function, self._folder)
        with self._lock:
            self._busy.add(worker)
            closed = self._closed
        if closed:
            self._give_back(worker, usable=False)
            raise WorkerFailed(CLOSED.reason.code, CLOSED.reason.detail)
        return worker

    def _give_back(self, worker: Worker, *, usable: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            usable = usable and not self._closed
            if usable:
                self._idle.append(worker)
        if not usable:
            worker.end()


def is_permitted(module: str, allowed: Sequence[str]) -> bool:
    """True if `allowed` names the module itself, or as `package.*` a package above it."""
    return any(module == one or (one.endswith(".*") and module.startswith(one[:-1])) for one in allowed)


def _not_permitted(module: str) -> Reason:
    return Reason(
        ReasonCode.FORBIDDEN, f"module {module} is not permitted; [delivery] function_modules must name it"
    )


def _build(settings: FunctionSettings, context: SinkContext) -> FunctionSink:
    return FunctionSink(settings, context)


KIND = SinkKind(FunctionSettings, _build)

"""The agent of one instance: reads what is asked for, does it, and leaves a record of it.

    step: journal what ended ─▶ tell it ─▶ read requests ─▶ start what is due ─▶ wait

What it promised, started and found out is in its journal before it acts on it, so a run that may have begun is never
begun again, and one that has ended is told once, with the same bytes however often it is appended.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from heliograph.bus.base import Bus
from producers.assistant import files, reporting
from producers.assistant.journal import Execution, Journal
from producers.assistant.policy import (
    CLOCK_STEP,
    DueDecision,
    Policy,
    decide_due,
    due_after_clock_step,
    first_due,
    is_immediate,
    permit,
)
from producers.assistant.process import kill_left_over
from producers.assistant.refusal import Refusal
from producers.assistant.reporting import Error, Instance, Progress
from producers.assistant.requests import Invocation, Run, SendFile, Stop
from producers.assistant.scripts import remove_left_over
from producers.assistant.signing import Keys
from producers.assistant.task import Host, Task, interrupted
from producers.edge import Edge
from schemas.clock import Clock
from schemas.errors import InputError
from schemas.execution import RecordState, RepeatMode, execution_record
from schemas.execution_errors import ERRORS, ErrorCode
from schemas.record import NewRecord, Record, TopicPartition
from schemas.rejects import rejected_record
from schemas.topics import COMMANDS

_REQUESTS = TopicPartition(COMMANDS, 0)
_FIRST_NEWS = 2.0
_LONGEST_NEWS = 60.0
_log = structlog.get_logger()


class _Address(msgspec.Struct):
    """Whom a request is for, as far as anybody can tell before its signature was looked at."""

    kind: str = ""
    region: str = ""
    invoke_id: str = ""
    instances: tuple[str, ...] = ()


_address = msgspec.json.Decoder(_Address).decode


@dataclass
class _Running:
    """A run in its thread. `news`: monotonic seconds of its next record of progress; `wait`: until the one after."""

    work: Task
    future: Future[Progress]
    news: float
    wait: float = _FIRST_NEWS
    told: Progress | None = None


@dataclass
class Agent:
    """One thread owns it. `keys` tell who may ask; `host` is what runs share."""

    bus: Bus
    edge: Edge
    journal: Journal
    keys: Keys
    instance: Instance
    policy: Policy
    host: Host
    clock: Clock
    _running: dict[str, _Running] = field(default_factory=dict[str, _Running])
    _woken: threading.Event = field(default_factory=threading.Event)
    _latest: int = 0  # that the clock has shown

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.policy.at_once, thread_name_prefix="run")

    def begin(self) -> None:
        """Account for what the last start of this agent left, and make due what waits for a start."""
        for execution, repeats, started in self.journal.unfinished():
            mark = self.host.run_mark(execution.request.invoke_id, repeats)
            if isinstance(execution.request, SendFile):
                files.remove_left_over(execution.request.file, mark)
            kill_left_over(mark)
            progress = interrupted(execution.request, started, self.clock.now())
            self._end(execution, repeats, progress)
        remove_left_over(self.host.folders)
        for execution in self.journal.executions():
            if isinstance(execution.request, Run) and _waits_for_a_start(execution, execution.request):
                self.journal.postpone(execution.request.invoke_id, self.clock.now())
        self._bring_forward(self.clock.now())

    def step(self, timeout: float) -> None:
        """One turn, of at most `timeout` seconds where nothing happens. Raises BusError and JournalUnusable, after
        which it may be called again."""
        self._collect()
        self._start()  # before the log is needed: what is scheduled does not wait for it
        self._tell()
        self._read()
        self._start()
        self._woken.wait(timeout)
        self._woken.clear()

    def wake(self) -> None:
        """Make a `step` that waits return soon. Callable from any thread."""
        self._woken.set()

    def running(self) -> int:
        """How many runs go on."""
        return len(self._running)

    def close(self) -> None:
        """End what runs here, and account for it. Raises as `step`."""
        self.abandon()
        self._collect()
        self._tell()

    def abandon(self) -> None:
        """End what runs here; the next start accounts for it."""
        for running in self._running.values():
            running.work.abandon()
        self._pool.shutdown()

    # What ended.

    def _collect(self) -> None:
        for invoke_id, running in list(self._running.items()):
            if running.future.done():
                execution = self.journal.execution(invoke_id)
                if execution is not None:
                    self._end(execution, running.work.repeats, self._result(running))
                del self._running[invoke_id]  # only now: a journal that failed is asked again

    def _result(self, running: _Running) -> Progress:
        try:
            return running.future.result()
        except Exception as bug:  # noqa: BLE001 - a run has an end whatever happened
            _log.exception("a run failed in the agent", invoke_id=running.work.asked.invoke_id)
            is_file = isinstance(running.work.asked, SendFile)
            code = ErrorCode.FILE_CREATE_FAIL if is_file else ErrorCode.EXECUTION_EXCEPTION
            error = Error(code, f"{ERRORS[code].info}: {type(bug).__name__}")
            return Progress(RecordState.ERROR, self.clock.now(), error=error)

    def _end(self, execution: Execution, repeats: int, progress: Progress) -> None:
        """Journal how a run ended, with the records that tell it."""
        asked = execution.request
        if execution.stopped is not None and progress.stopped is None:
            progress = replace(progress, stopped=execution.stopped)
        now = self.clock.now()
        over = execution.stopped is not None or not self._goes_on(execution)
        final = reporting.build_record(asked, self.instance, repeats, progress)
        records = [
            execution_record(final),
            self.edge.record(reporting.build_event(final, self.instance, now)),
        ]
        if not over:
            records.append(self._progress(asked, repeats + 1, RecordState.SCHEDULED))
        self.journal.end(asked.invoke_id, repeats, records, now if over else None)
        _log.info("a run has ended", invoke_id=asked.invoke_id, repeats=repeats, state=progress.state.value)

    def _goes_on(self, execution: Execution) -> bool:
        asked = execution.request
        return execution.due is not None or (isinstance(asked, Run) and asked.mode is RepeatMode.EVERY_REBOOT)

    def _tell(self) -> None:
        """Append what ended, and news of what runs."""
        for invoke_id, repeats, records in self.journal.unreported():
            self.bus.append(records)
            self.journal.mark_reported(invoke_id, repeats)
        now = self.clock.monotonic()
        for running in self._running.values():
            if now >= running.news:
                self._news(running, now)

    def _news(self, running: _Running, now: float) -> None:
        """Say what a run has printed so far, if that is news; ever more seldom."""
        work, progress = running.work, running.work.progress()
        if running.told is None or (progress.state, progress.output) != (
            running.told.state,
            running.told.output,
        ):
            self.bus.append(
                [execution_record(reporting.build_record(work.asked, self.instance, work.repeats, progress))]
            )
            running.told = progress
        running.wait = min(2 * running.wait, _LONGEST_NEWS)
        running.news = now + running.wait

    # What is asked for.

    def _read(self) -> None:
        cursor = before = self.journal.cursor
        polled = self.bus.read(_REQUESTS, cursor)
        for gap in polled.gaps:
            _log.warning("requests are missing from the log", start=gap.start, end=gap.end)
            cursor = gap.end
        for record in polled.records:
            if self._is_for_us(record):
                self._take(record)
            cursor = record.offset + 1
        if cursor > before:
            self.journal.move_cursor(cursor)

    def _is_for_us(self, record: Record) -> bool:
        try:
            address = _address(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            _log.warning("what is no request was passed over", position=str(record.position))
            return False
        if address.region != self.instance.region:
            return False
        if address.kind == "stop" and self.journal.execution(address.invoke_id) is None:
            return False
        return self.instance.id in address.instances or (address.kind == "stop" and not address.instances)

    def _take(self, record: Record) -> None:
        """Promise what an authorised caller asks for; keep anything else in `rejects`."""
        try:
            request = self.keys.verify(record)
        except InputError as error:
            _log.error("a request was refused", position=str(record.position), why=str(error))
            self.bus.append([rejected_record(record.value, str(error), f"agent of {self.instance.id}")])
            return
        match request:
            case Run() | SendFile():
                self._accept(request)
            case Stop():
                self._stop(request)
            case _:
                pass

    def _accept(self, asked: Invocation) -> None:
        if not self.journal.accept(asked, first_due(asked), self.clock.now()):
            _log.warning("a request came again and was passed over", invoke_id=asked.invoke_id)
        execution = self.journal.execution(asked.invoke_id)
        if not is_immediate(asked) and execution is not None and execution.repeats == 0:
            # Also when it came again: that may be because this failed.
            self.bus.append([self._progress(asked, 1, RecordState.SCHEDULED)])

    def _stop(self, stop: Stop) -> None:
        self.journal.stop(stop.invoke_id, stop.time)
        running = self._running.get(stop.invoke_id)
        if running is not None:
            running.work.stop(stop.time)
            running.news = 0.0
        elif (execution := self.journal.execution(stop.invoke_id)) is not None:
            progress = Progress(RecordState.CANCELLED, self.clock.now(), stopped=stop.time)
            self._end(execution, execution.repeats + 1, progress)

    # What is due.

    def _start(self) -> None:
        now = self.clock.now()
        if now < self._latest - CLOCK_STEP:
            self._bring_forward(now)
            self._latest = now
        self._latest = max(self._latest, now)
        for execution in self.journal.due(now):
            if len(self._running) >= self.policy.at_once:
                break
            asked = execution.request
            running = asked.invoke_id in self._running
            found = decide_due(self.policy, asked, execution.due or 0, now, running=running)
            if found.missed:
                total = execution.missed + found.missed
                _log.warning("times were missed", invoke_id=asked.invoke_id, missed=found.missed, total=total)
            if found.run:
                self._begin(asked, found, now)
            elif found.following is None and not running:
                self._missed_for_good(execution, found, now)
            else:
                self.journal.postpone(asked.invoke_id, found.following, found.missed)

    def _bring_forward(self, now: int) -> None:
        """A clock that was ahead for a while does not keep a schedule waiting until its time comes again."""
        for execution in self.journal.executions():
            asked = execution.request
            due = due_after_clock_step(asked, execution.due or 0, now)
            if due is not None:
                _log.warning("the clock was put back, a schedule goes on", invoke_id=asked.invoke_id)
                self.journal.postpone(asked.invoke_id, due)

    def _begin(self, asked: Invocation, found: DueDecision, now: int) -> None:
        repeats = self.journal.start(asked.invoke_id, found.following, now, found.missed)
        work = Task(asked, repeats, self.host)
        future = self._pool.submit(self._carry_out, work)
        self._running[asked.invoke_id] = _Running(work, future, self.clock.monotonic())
        future.add_done_callback(lambda _: self.wake())
        _log.info("a run has started", invoke_id=asked.invoke_id, repeats=repeats)

    def _carry_out(self, work: Task) -> Progress:
        now = self.clock.now()
        try:
            permit(self.policy, work.asked, now)
        except Refusal as refused:
            return Progress(refused.state, now, error=Error(refused.code, refused.info))
        return work.execute()

    def _missed_for_good(self, execution: Execution, found: DueDecision, now: int) -> None:
        """Account for a schedule whose last time has passed without a run."""
        code = ErrorCode.CLIENT_NOT_RUNNING
        missed = execution.missed + found.missed
        error = Error(code, f"{ERRORS[code].info}; times that were missed, with the last: {missed}")
        progress = Progress(RecordState.ABORTED, now, error=error)
        self._end(execution._replace(due=None), execution.repeats + 1, progress)

    def _progress(self, asked: Invocation, repeats: int, state: RecordState) -> NewRecord:
        return execution_record(
            reporting.build_record(asked, self.instance, repeats, Progress(state, self.clock.now()))
        )


def _waits_for_a_start(execution: Execution, run: Run) -> bool:
    match run.mode:
        case RepeatMode.EVERY_REBOOT:
            return True
        case RepeatMode.NEXT_REBOOT_ONLY:
            return execution.repeats == 0
        case RepeatMode.ONCE | RepeatMode.PERIOD:
            return False

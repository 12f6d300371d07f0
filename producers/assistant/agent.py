"""The agent of one instance: reads requests, runs them, and appends execution records.

    step: journal ended runs ─▶ append their records ─▶ read requests ─▶ start due runs ─▶ wait

The journal records each accepted request, each start and each result before the agent acts on it. So a run that may
have begun never starts again, and the records of an ended run have the same bytes however often they are appended.
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
    check_permitted,
    decide_due,
    due_after_clock_step,
    first_due,
    is_immediate,
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
_FIRST_INTERVAL = 2.0
_LONGEST_INTERVAL = 60.0
_log = structlog.get_logger()


class _Address(msgspec.Struct):
    """The addressees of a request, read before its signature is verified."""

    kind: str = ""
    region: str = ""
    invoke_id: str = ""
    instances: tuple[str, ...] = ()


_address = msgspec.json.Decoder(_Address).decode


@dataclass
class _Running:
    """A run in its thread. `next_report`: monotonic time of the next progress record, in seconds; `interval`: seconds
    between progress records, which grow; `reported`: the progress in the last such record."""

    task: Task
    future: Future[Progress]
    next_report: float
    interval: float = _FIRST_INTERVAL
    reported: Progress | None = None


@dataclass(kw_only=True)
class Agent:
    """The agent of one instance, owned by one thread. `keys` verify requests; `host` has the properties of all runs."""

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
    _latest: int = 0  # latest wall time seen, in milliseconds since the epoch

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.policy.concurrency, thread_name_prefix="run")

    def recover(self) -> None:
        """Ends the runs that a previous process of this agent left unfinished. Makes due the runs that wait for a
        start of the agent."""
        for execution, repeats, started in self.journal.unfinished():
            mark = self.host.run_mark(execution.request.invoke_id, repeats)
            if isinstance(execution.request, SendFile):
                files.remove_left_over(execution.request.file, mark)
            kill_left_over(mark)
            progress = interrupted(execution.request, started, self.clock.now())
            self._end(execution, repeats, progress)
        remove_left_over(self.host.folder_prefix)
        for execution in self.journal.executions():
            if isinstance(execution.request, Run) and _waits_for_a_start(execution, execution.request):
                self.journal.reschedule(execution.request.invoke_id, self.clock.now())
        self._bring_forward(self.clock.now())

    def step(self, timeout: float) -> None:
        """Does all work that is due now, then waits for `wake`, at most `timeout` seconds. Raises BusError and
        JournalUnusable; the next call then tries again."""
        self._collect()
        self._start_due()  # before the first use of the bus, so that an unreachable bus delays no schedule
        self._report()
        self._read()
        self._start_due()
        self._woken.wait(timeout)
        self._woken.clear()

    def wake(self) -> None:
        """Makes a waiting `step` return soon. May be called from any thread."""
        self._woken.set()

    def running(self) -> int:
        """Returns the number of runs that have not ended."""
        return len(self._running)

    def close(self) -> None:
        """Ends all runs and appends their records. Raises errors as `step` does."""
        self.abandon()
        self._collect()
        self._report()

    def abandon(self) -> None:
        """Ends all runs; the next `recover` reports them."""
        for running in self._running.values():
            running.task.abandon()
        self._pool.shutdown()

    # Ended runs.

    def _collect(self) -> None:
        for invoke_id, running in list(self._running.items()):
            if running.future.done():
                execution = self.journal.execution(invoke_id)
                if execution is not None:
                    self._end(execution, running.task.repeats, self._result(running))
                del self._running[invoke_id]  # only now, so that a failed write to the journal is repeated

    def _result(self, running: _Running) -> Progress:
        try:
            return running.future.result()
        except Exception as bug:  # noqa: BLE001 - every run needs a final record
            _log.exception(
                "a run raised an exception in the agent", invoke_id=running.task.invocation.invoke_id
            )
            is_file = isinstance(running.task.invocation, SendFile)
            code = ErrorCode.FILE_CREATE_FAIL if is_file else ErrorCode.EXECUTION_EXCEPTION
            error = Error(code, f"{ERRORS[code].info}: {type(bug).__name__}")
            return Progress(RecordState.ERROR, self.clock.now(), error=error)

    def _end(self, execution: Execution, repeats: int, progress: Progress) -> None:
        """Writes the end of a run to the journal, with the records that report it."""
        invocation = execution.request
        if execution.stopped is not None and progress.stopped is None:
            progress = replace(progress, stopped=execution.stopped)
        now = self.clock.now()
        over = execution.stopped is not None or not _has_further_runs(execution)
        final = reporting.build_record(invocation, self.instance, repeats, progress)
        records = [
            execution_record(final),
            self.edge.build_record(reporting.build_event(final, self.instance, now)),
        ]
        if not over:
            records.append(self._progress(invocation, repeats + 1, RecordState.SCHEDULED))
        self.journal.end(invocation.invoke_id, repeats, records, now if over else None)
        _log.info(
            "a run has ended", invoke_id=invocation.invoke_id, repeats=repeats, state=progress.state.value
        )

    def _report(self) -> None:
        """Appends the records of ended runs, and the progress of running ones."""
        for invoke_id, repeats, records in self.journal.unreported():
            self.bus.append(records)
            self.journal.mark_reported(invoke_id, repeats)
        now = self.clock.monotonic()
        for running in self._running.values():
            if now >= running.next_report:
                self._report_progress(running, now)

    def _report_progress(self, running: _Running, now: float) -> None:
        """Appends a progress record of a run, unless state and output are the same as in the last record."""
        task, progress, last = running.task, running.task.progress(), running.reported
        if last is None or (progress.state, progress.output) != (last.state, last.output):
            self.bus.append(
                [
                    execution_record(
                        reporting.build_record(task.invocation, self.instance, task.repeats, progress)
                    )
                ]
            )
            running.reported = progress
        running.interval = min(2 * running.interval, _LONGEST_INTERVAL)
        running.next_report = now + running.interval

    # Requests.

    def _read(self) -> None:
        cursor = before = self.journal.read_cursor()
        polled = self.bus.read(_REQUESTS, cursor)
        for gap in polled.gaps:
            _log.warning("requests are missing in the topic", start=gap.start, end=gap.end)
            cursor = gap.end
        for record in polled.records:
            if self._is_addressed(record):
                self._handle(record)
            cursor = record.offset + 1
        if cursor > before:
            self.journal.move_cursor(cursor)

    def _is_addressed(self, record: Record) -> bool:
        """True if the record is a request for this instance, by its unverified address."""
        try:
            address = _address(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            _log.warning("skipped a record that is not a request", position=str(record.position))
            return False
        if address.region != self.instance.region:
            return False
        if address.kind == "stop" and self.journal.execution(address.invoke_id) is None:
            return False
        return self.instance.id in address.instances or (address.kind == "stop" and not address.instances)

    def _handle(self, record: Record) -> None:
        """Verifies a request. Accepts a run or a file, or stops an execution; appends an unauthorised request to
        `rejects`."""
        try:
            request = self.keys.verify(record)
        except InputError as error:
            _log.error("refused a request", position=str(record.position), why=str(error))
            self.bus.append([rejected_record(record.value, str(error), f"agent of {self.instance.id}")])
            return
        match request:
            case Run() | SendFile():
                self._accept(request)
            case Stop():
                self._stop(request)
            case _:
                pass

    def _accept(self, invocation: Invocation) -> None:
        if not self.journal.accept(invocation, first_due(invocation), self.clock.now()):
            _log.warning("skipped a repeated request", invoke_id=invocation.invoke_id)
        execution = self.journal.execution(invocation.invoke_id)
        if not is_immediate(invocation) and execution is not None and execution.repeats == 0:
            # Repeated requests need it too: the append may have failed the first time.
            self.bus.append([self._progress(invocation, 1, RecordState.SCHEDULED)])

    def _stop(self, stop: Stop) -> None:
        self.journal.stop(stop.invoke_id, stop.time)
        running = self._running.get(stop.invoke_id)
        if running is not None:
            running.task.stop(stop.time)
            running.next_report = 0.0
        elif (execution := self.journal.execution(stop.invoke_id)) is not None:
            progress = Progress(RecordState.CANCELLED, self.clock.now(), stopped=stop.time)
            self._end(execution, execution.repeats + 1, progress)

    # Due runs.

    def _start_due(self) -> None:
        now = self.clock.now()
        if now < self._latest - CLOCK_STEP:
            self._bring_forward(now)
            self._latest = now
        self._latest = max(self._latest, now)
        for execution in self.journal.due(now):
            if len(self._running) >= self.policy.concurrency:
                break
            invocation = execution.request
            running = invocation.invoke_id in self._running
            found = decide_due(self.policy, invocation, execution.due or 0, now, running=running)
            if found.missed:
                total = execution.missed + found.missed
                _log.warning(
                    "scheduled times were missed",
                    invoke_id=invocation.invoke_id,
                    missed=found.missed,
                    total=total,
                )
            if found.run:
                self._start_run(invocation, found, now)
            elif found.following is None and not running:
                self._end_missed(execution, found, now)
            else:
                self.journal.reschedule(invocation.invoke_id, found.following, found.missed)

    def _bring_forward(self, now: int) -> None:
        """Corrects due times that are too late because they were computed while the clock was ahead."""
        for execution in self.journal.executions():
            invocation = execution.request
            due = due_after_clock_step(invocation, execution.due or 0, now)
            if due is not None:
                _log.warning(
                    "the clock was set back; corrected the next time of a schedule",
                    invoke_id=invocation.invoke_id,
                )
                self.journal.reschedule(invocation.invoke_id, due)

    def _start_run(self, invocation: Invocation, found: DueDecision, now: int) -> None:
        repeats = self.journal.start(invocation.invoke_id, found.following, now, found.missed)
        task = Task(invocation, repeats, self.host)
        future = self._pool.submit(self._execute, task)
        self._running[invocation.invoke_id] = _Running(task, future, self.clock.monotonic())
        future.add_done_callback(lambda _: self.wake())
        _log.info("a run has started", invoke_id=invocation.invoke_id, repeats=repeats)

    def _execute(self, task: Task) -> Progress:
        now = self.clock.now()
        try:
            check_permitted(self.policy, task.invocation, now)
        except Refusal as refused:
            return Progress(refused.state, now, error=Error(refused.code, refused.info))
        return task.execute()

    def _end_missed(self, execution: Execution, found: DueDecision, now: int) -> None:
        """Ends an execution whose last scheduled time has passed without a run."""
        code = ErrorCode.CLIENT_NOT_RUNNING
        missed = execution.missed + found.missed
        error = Error(code, f"{ERRORS[code].info}; missed times, the last included: {missed}")
        progress = Progress(RecordState.ABORTED, now, error=error)
        self._end(replace(execution, due=None), execution.repeats + 1, progress)

    def _progress(self, invocation: Invocation, repeats: int, state: RecordState) -> NewRecord:
        return execution_record(
            reporting.build_record(invocation, self.instance, repeats, Progress(state, self.clock.now()))
        )


def _has_further_runs(execution: Execution) -> bool:
    invocation = execution.request
    return execution.due is not None or (
        isinstance(invocation, Run) and invocation.mode is RepeatMode.EVERY_REBOOT
    )


def _waits_for_a_start(execution: Execution, run: Run) -> bool:
    match run.mode:
        case RepeatMode.EVERY_REBOOT:
            return True
        case RepeatMode.NEXT_REBOOT_ONLY:
            return execution.repeats == 0
        case RepeatMode.ONCE | RepeatMode.PERIOD:
            return False

"""Sinks of kind `python`, with real worker processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest
import structlog
from pydantic import ValidationError

from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
)
from sinks.base import Sink, SinkContext
from sinks.function import sink as module
from sinks.function.sink import KIND, FunctionSettings, is_permitted
from tests.conformance.sink import SinkConformance, SinkDriver, make_delivery
from tests.sinks.receiver import EVENT, delivery

AUDIT = dedent("""
    import json, os, sys, time
    from pathlib import Path

    def handler(event, context):
        return os.getpid()

    def echo(event, context):
        return f"{len(event)} {json.loads(event)['id']} {sorted(vars(context))}"

    def context(event, context):
        return f"{context.request_id} {context.function_name} {context.source} {context.subscription} {context.attempt}"

    def deadline(event, context):
        return 0 < context.deadline - time.time() * 1000 <= 30_000

    def size(event, context):
        return len(event)

    def fails(event, context):
        raise LookupError("no such disk")

    def leaves(event, context):
        sys.exit("enough")

    def dies(event, context):
        os._exit(3)

    def crashes(event, context):
        os.kill(os.getpid(), 11)

    def by_event(event, context):
        if event == b"hang":
            time.sleep(600)
        return os.getpid()

    def marks(event, context):
        Path(event.decode()).write_text(str(os.getpid()))
        time.sleep(600)

    def meets(event, context):
        mine, other = event.decode().split(",")
        Path(mine).touch()
        while not Path(other).exists():
            time.sleep(0.005)
        return "met"

    def prints(event, context):
        print("from print")
        os.write(1, b"from write\\n")
        os.system("echo from shell")
        print("from stderr", file=sys.stderr)
        sys.stdout.flush()
        return repr(sys.stdin.read())

    def forks(event, context):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return event.decode() if child else "the child"

    def logs(event, context):
        import logging
        logging.getLogger("audit").info("from logging")
""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audit.py").write_text(AUDIT)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(2)\n")
    (tmp_path / "gone.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "changes.py").write_text("def handler(event, context): return 'changed'\n")
    return tmp_path


@asynccontextmanager
async def opened(folder: Path | None, function: str, **settings: object) -> AsyncGenerator[Sink]:
    sink_context = SinkContext(
        bus=MemoryBus(),
        objects=MemoryStore(),
        logs=Path(),
        function_modules=("audit", "broken", "exits", "gone", "missing", "package.*", "importable"),
        function_path=folder,
    )
    checked = FunctionSettings.model_validate({"function": function, "timeout": 30, **settings})
    sink = KIND.build(checked, sink_context)
    try:
        yield sink
    finally:
        await sink.close()


def call(
    folder: Path | None, function: str, batch: Sequence[Delivery] = (delivery(),), **settings: object
) -> Sequence[Outcome]:
    async def work() -> Sequence[Outcome]:
        async with opened(folder, function, **settings) as sink:
            return await sink.deliver(batch)

    return asyncio.run(work())


def receipts(outcomes: Sequence[Outcome]) -> list[str]:
    assert all(isinstance(outcome, Delivered) for outcome in outcomes), outcomes
    return [outcome.receipt for outcome in outcomes if isinstance(outcome, Delivered)]


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{what} within 30 s")


def alive(pid: int) -> bool:
    """True if the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_function_gets_the_event_and_its_context(folder: Path) -> None:
    fields = ["attempt", "deadline", "function_name", "request_id", "source", "subscription"]
    assert receipts(call(folder, "audit:echo")) == [f"{len(EVENT)} 5E-1 {fields}"]
    base = delivery(4)
    again = Delivery(
        id=base.id, source=base.source, subscription=base.subscription, target=base.target, resource=base.resource, event=base.event, event_time=base.event_time, configuration=1,
        attempts=Attempts().plus(Attempt(at=1, took=0.1)),
    )  # fmt: skip
    assert receipts(call(folder, "audit:context", [base, again])) == [
        "id4 audit:context events.ecs.disk:0:4 sub 1",
        "id4 audit:context events.ecs.disk:0:4 sub 2",
    ]
    assert receipts(call(folder, "audit:deadline")) == ["True"]


def test_the_function_is_called_handler_unless_it_is_named(folder: Path) -> None:
    assert receipts(call(folder, "package.changes")) == ["changed"]


def test_a_thousand_calls_use_one_process(folder: Path) -> None:
    found = receipts(call(folder, "audit", [delivery(number) for number in range(1000)]))
    assert len(found) == 1000
    assert len(set(found)) == 1


def test_a_forked_child_of_the_function_sends_no_reply(folder: Path) -> None:
    batch = [delivery(number, str(number).encode()) for number in range(3)]
    assert receipts(call(folder, "audit:forks", batch, timeout=5)) == ["0", "1", "2"]


def test_workers_run_at_once_and_never_exceed_their_number(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    events = [f"{one},{two}".encode(), f"{two},{one}".encode()]
    batch = [delivery(number, event) for number, event in enumerate(events)]
    assert receipts(call(folder, "audit:meets", batch, workers=2)) == ["met", "met"]
    pids = receipts(call(folder, "audit", [delivery(number) for number in range(100)], workers=2))
    assert len(set(pids)) <= 2


def test_events_of_any_size_reach_the_function(folder: Path) -> None:
    sizes = [0, 1, 65_536, 262_144, 1_000_000]
    assert receipts(call(folder, "audit:size", [delivery(1, bytes(size)) for size in sizes])) == [
        str(s) for s in sizes
    ]


@pytest.mark.parametrize(
    ("function", "code", "detail"),
    [
        ("audit:fails", ReasonCode.RECEIVER_FAILED, "LookupError: no such disk"),
        ("audit:leaves", ReasonCode.RECEIVER_FAILED, "SystemExit: enough"),
        ("audit:dies", ReasonCode.UNAVAILABLE, "audit:dies: the worker ended with exit code 3"),
        ("audit:crashes", ReasonCode.UNAVAILABLE, "audit:crashes: the worker was ended by SIGSEGV"),
        ("gone", ReasonCode.UNAVAILABLE, "gone:handler: the worker ended with exit code 7"),
        ("broken", ReasonCode.MISCONFIGURED, "broken:handler cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("missing", ReasonCode.MISCONFIGURED, "missing:handler cannot be imported: ModuleNotFoundError: No module named 'missing'"),
        ("exits", ReasonCode.MISCONFIGURED, "exits:handler cannot be imported: SystemExit: 2"),
        ("audit:nothing", ReasonCode.MISCONFIGURED, "audit:nothing cannot be imported: TypeError: module audit has no function nothing"),
    ],
)  # fmt: skip
def test_every_failure_of_a_function_is_a_retry(
    folder: Path, function: str, code: ReasonCode, detail: str
) -> None:
    assert call(folder, function, [delivery(1), delivery(2)]) == [Retry(Reason(code, detail))] * 2


def test_a_call_that_exceeds_its_time_limit_is_killed_and_the_worker_replaced(folder: Path) -> None:
    async def work() -> None:
        async with opened(folder, "audit:by_event", timeout=2) as sink:
            (first,) = receipts(await sink.deliver([delivery(1)]))
            (hung,) = await sink.deliver([delivery(2, b"hang")])
            (second,) = receipts(await sink.deliver([delivery(3)]))
            assert hung == Retry(Reason(ReasonCode.TIMED_OUT, "audit:by_event took longer than 2 s"))
            assert first != second
            assert not alive(int(first))

    asyncio.run(work())


def test_sending_to_a_stopped_worker_ends_with_the_time_limit(folder: Path) -> None:
    async def work() -> None:
        async with opened(folder, "audit:by_event", timeout=1) as sink:
            (pid,) = receipts(await sink.deliver([delivery(1)]))
            os.kill(int(pid), signal.SIGSTOP)
            (outcome,) = await sink.deliver([delivery(2, bytes(4_000_000))])
            assert isinstance(outcome, Retry)
            assert outcome.reason.code is ReasonCode.TIMED_OUT

    asyncio.run(work())


def test_a_killed_worker_is_replaced(folder: Path) -> None:
    async def work() -> None:
        async with opened(folder, "audit") as sink:
            (pid,) = receipts(await sink.deliver([delivery(1)]))
            os.kill(int(pid), signal.SIGKILL)
            (lost,) = await sink.deliver([delivery(2)])
            assert lost == Retry(
                Reason(ReasonCode.UNAVAILABLE, "audit:handler: the worker was ended by SIGKILL")
            )
            assert receipts(await sink.deliver([delivery(2)])) != [pid]

    asyncio.run(work())


async def _deliver(sink: Sink, one: Delivery) -> Sequence[Outcome]:
    return await sink.deliver([one])


def test_closing_ends_idle_and_busy_workers(folder: Path) -> None:
    async def work() -> None:
        async with opened(folder, "audit") as idle, opened(folder, "audit:marks") as busy:
            (idle_pid,) = receipts(await idle.deliver([delivery(1)]))
            mark = folder / "mark"
            running = asyncio.create_task(_deliver(busy, delivery(1, str(mark).encode())))
            await until(lambda: mark.exists() and bool(mark.read_text()), "the function runs")
            busy_pid = int(mark.read_text())
            await idle.close()
            await busy.close()
            assert not alive(int(idle_pid))
            assert not alive(busy_pid)
            (outcome,) = await running
            assert isinstance(outcome, Retry)
            assert outcome.reason.code is ReasonCode.UNAVAILABLE

    asyncio.run(work())


def test_an_idle_worker_runs_its_exit_handlers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_LIMIT", 60.0)
    (folder / "package" / "polite.py").write_text(
        "import atexit, pathlib\n"
        "def handler(event, context):\n"
        "    atexit.register(pathlib.Path(event.decode()).touch)\n"
    )
    call(folder, "package.polite", [delivery(1, str(folder / "bye").encode())])
    assert (folder / "bye").exists()


@pytest.mark.parametrize("function", ["audit:handler", "audit:marks"])
def test_a_worker_ends_when_the_server_is_killed(folder: Path, function: str) -> None:
    mark = folder / "mark"
    script = dedent(f"""
        import sys
        from pathlib import Path
        from sinks.function.process import Worker
        from tests.sinks.receiver import delivery
        worker = Worker({function!r}, Path({str(folder)!r}))
        print(worker._process.pid, flush=True)
        worker.call(delivery(1, {str(mark).encode()!r}), 600)
        print("idle", flush=True)
        sys.stdin.read()
    """)
    server = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    with server.stdin, server.stdout:
        pid = int(server.stdout.readline())
        if function == "audit:handler":
            assert server.stdout.readline() == b"idle\n"
        else:
            asyncio.run(until(mark.exists, "the function runs"))
        assert alive(pid)
        server.kill()
        server.wait()
    asyncio.run(until(lambda: not alive(pid), "the worker ends"))


def test_output_of_a_function_becomes_log_lines(folder: Path) -> None:
    async def work() -> None:
        with structlog.testing.capture_logs() as entries:
            async with opened(folder, "audit:prints") as sink:
                assert receipts(await sink.deliver([delivery(1)])) == ["''"]
            wanted = {"from print", "from write", "from shell", "from stderr"}
            await until(lambda: {entry["line"] for entry in entries} >= wanted, "what was printed is logged")
            assert {entry["handler"] for entry in entries} == {"audit:prints"}
            async with opened(folder, "audit:logs") as sink:
                await sink.deliver([delivery(1)])
            await until(
                lambda: "INFO audit: from logging" in {entry["line"] for entry in entries},
                "logging is logged",
            )

    asyncio.run(work())


def test_the_current_folder_is_not_imported_from(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path_factory.mktemp("hostile")
    for name in ("importable", "json", "socket", "audit"):
        (hostile / f"{name}.py").write_text("raise SystemError('hostile')\n")
    monkeypatch.chdir(hostile)
    assert receipts(call(folder, "audit:size", [delivery(1, b"12")])) == ["2"]
    (outcome,) = call(None, "importable")
    assert isinstance(outcome, Retry)
    assert "No module named 'importable'" in outcome.reason.detail


def test_without_a_folder_the_module_comes_from_pythonpath(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert receipts(call(None, "audit:size", [delivery(1, b"12")])) == ["2"]


def test_a_module_that_is_not_permitted_is_not_started() -> None:
    assert call(None, "os:system", [delivery(1), delivery(2)]) == [
        Rejected(Reason(ReasonCode.FORBIDDEN, "module os is not permitted; [delivery] function_modules must name it"))
    ] * 2  # fmt: skip


@pytest.mark.parametrize(
    ("module", "allowed", "expected"),
    [
        ("audit", ("audit",), True),
        ("audit", (), False),
        ("audit", ("audi", "audits", "audit.*"), False),
        ("audit.changes", ("audit",), False),
        ("audit.changes", ("audit.*",), True),
        ("audit.changes.late", ("audit.*",), True),
        ("auditor.changes", ("audit.*",), False),
        ("audit", ("*",), False),
    ],
)
def test_a_module_is_permitted_by_name_or_by_package(
    module: str, allowed: Sequence[str], expected: bool
) -> None:
    assert is_permitted(module, allowed) is expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"function": ""},
        {"function": "a:"},
        {"function": ":a"},
        {"function": "a.:b"},
        {"function": "a:b.c"},
        {"function": "a/b:c"},
        {"function": "a:b\n"},
        {"function": "a", "timeout": 0},
        {"function": "a", "timeout": 3601},
        {"function": "a", "workers": 0},
        {"function": "a", "workers": 33},
        {"function": "a", "more": 1},
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FunctionSettings.model_validate(settings)


class FunctionDriver(SinkDriver):
    """Sinks of kind `python`; the function does what the files in its folder say."""

    takes_any_size = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "audit.py").write_text(
            dedent(f"""
            import json, time
            from pathlib import Path

            FOLDER = Path({str(folder)!r})

            def handler(event, context):
                if event == b"bad":
                    raise ValueError("bad")
                while (FOLDER / "hold").exists():
                    (FOLDER / "reached").touch()
                    time.sleep(0.001)
                return event.decode(errors="replace")
            """)
        )

    def build(self, *, patient: bool = True) -> Sink:
        context = SinkContext(
            bus=MemoryBus(),
            objects=MemoryStore(),
            logs=Path(),
            function_modules=("audit",),
            function_path=self._folder,
        )
        return KIND.build(FunctionSettings(function="audit", timeout=30 if patient else 1), context)

    def make_bad(self, number: int) -> Delivery:
        return make_delivery(number, b"bad")

    def refuse_large(self) -> None:
        """A function takes events of any size."""

    def time_out(self) -> None:
        self.hold()

    def hold(self) -> None:
        (self._folder / "hold").touch()

    def is_holding(self) -> bool:
        return (self._folder / "reached").exists()

    def release(self) -> None:
        (self._folder / "hold").unlink(missing_ok=True)


class TestFunctionConformance(SinkConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> SinkDriver:
        return FunctionDriver(tmp_path)

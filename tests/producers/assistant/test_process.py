"""Processes, scripts and accounts of runs."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from producers.assistant import process as module
from producers.assistant.accounts import find_account, owner_ids
from producers.assistant.output import Output
from producers.assistant.process import (
    MARK,
    Ended,
    Exited,
    Launch,
    Process,
    Stopped,
    TimedOut,
    kill_left_over,
)
from producers.assistant.refusal import Refusal
from producers.assistant.scripts import interpreter, remove_left_over, script_file
from schemas.execution import CommandType
from schemas.execution_errors import ErrorCode
from tests.acceptance.product import until

STUBBORN = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $!; while :; do sleep 1; done"


def launch(script: str, *, timeout: float = 60, mark: str = "") -> Launch:
    return Launch(
        arguments=["/bin/sh", "-c", script],
        folder=Path("/"),
        account=find_account(""),
        timeout=timeout,
        mark=mark or uuid4().hex,
    )


def ran(script: str, *, timeout: float = 60) -> tuple[Ended, str]:
    output = Output()
    return Process().run(launch(script, timeout=timeout), output), output.tail().text


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_both_output_streams_are_read_in_order_with_the_exit_code() -> None:
    assert ran("echo a; echo b >&2; printf c; exit 7") == (Exited(7), "a\nb\nc")


def test_a_command_ended_by_a_signal_has_the_exit_code_of_shells() -> None:
    assert ran("kill -9 $$") == (Exited(137), "")


def test_the_time_limit_ends_children_that_ignore_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output()
    time_is_over_once(lambda: output.tail().text, monkeypatch)
    assert Process().run(launch(STUBBORN), output) == TimedOut()
    pid = int(output.tail().text)
    until(lambda: not lives(pid))


def time_is_over_once(seen: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    def monotonic() -> float:
        return time.monotonic() + (1000 if seen() else 0)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))


def test_the_time_limit_ends_a_command_that_closed_its_output() -> None:
    assert ran("exec >&- 2>&-; exec sleep 1000", timeout=0.3) == (TimedOut(), "")


def test_the_time_limit_ends_endless_output_and_its_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output()
    time_is_over_once(lambda: output.tail().dropped, monkeypatch)
    assert Process().run(launch("yes"), output) == TimedOut()
    kept = output.tail()
    assert len(kept.text) == 24 * 1024
    assert kept.dropped > 0


def test_stop_ends_a_running_command_and_its_children() -> None:
    process, output = Process(), Output()
    ends: list[Ended] = []
    thread = threading.Thread(target=lambda: ends.append(process.run(launch(STUBBORN), output)))
    thread.start()
    pid = int(until(lambda: output.tail().text))
    process.stop()
    thread.join()
    assert ends == [Stopped()]
    until(lambda: not lives(pid))


def test_a_background_process_is_not_waited_for() -> None:
    ended, text = ran("sleep 1000 & echo $!")
    assert ended == Exited(0)
    assert lives(int(text))
    os.kill(int(text), 9)


def test_endless_output_of_a_background_process_is_not_waited_for(tmp_path: Path) -> None:
    ended, text = ran(
        f"(echo y; > {tmp_path}/begun; exec yes) & until [ -e {tmp_path}/begun ]; do sleep 0.02; done"
    )
    assert ended == Exited(0)
    assert text.endswith("y\n")


def test_a_command_gets_nothing_of_the_agents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    _, text = ran("env")
    names = {line.partition("=")[0] for line in text.splitlines()} - {"_", "PWD", "SHLVL", "OLDPWD"}
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "HELIOGRAPH_RUN"}


def test_standard_input_is_empty() -> None:
    assert ran("cat; echo end") == (Exited(0), "end\n")


def test_processes_of_a_killed_agent_are_found_by_their_mark() -> None:
    mark = uuid4().hex
    process, output = Process(), Output()
    script = "setsid sh -c 'echo $$; while :; do sleep 1; done'"
    thread = threading.Thread(target=process.run, args=(launch(script, mark=mark), output))
    thread.start()
    pid = int(until(lambda: output.tail().text))
    kill_left_over(uuid4().hex)
    assert lives(pid)
    kill_left_over(mark)
    thread.join()
    until(lambda: not lives(pid))


def test_a_process_started_during_the_search_is_killed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mark, kill = uuid4().hex, os.kill
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        process = subprocess.Popen(["sleep", "1000"], env={MARK: mark, "PATH": os.environ["PATH"]})
        started.append(process)
        until(lambda: mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes())

    def kill_late(number: int, how: int) -> None:
        if len(started) < 3:
            start()
        kill(number, how)

    start()
    monkeypatch.setattr(os, "kill", kill_late)
    kill_left_over(mark)
    assert [process.wait(30) for process in started] == [-9] * 3


# Scripts and their interpreters.


def test_only_its_user_can_read_a_script(tmp_path: Path) -> None:
    me = find_account("")
    with script_file(CommandType.SHELL, "echo {}", me, "heliograph-test-") as path:
        assert path.read_text() == "echo {}"
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()


def test_folders_of_a_killed_agent_are_removed() -> None:
    prefix = f"heliograph-{uuid4().hex}-"
    held = script_file(CommandType.SHELL, "x", find_account(""), prefix)
    path = held.__enter__()
    remove_left_over(prefix)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("echo", ["/bin/sh"]),
        ("#!/bin/sh -e\necho", ["/bin/sh", "-e"]),
        ("#!/usr/bin/env python3 \n", ["/usr/bin/env", "python3"]),
        ("#!\necho", ["/bin/sh"]),
    ],
)
def test_a_script_may_name_its_interpreter(content: str, words: list[str]) -> None:
    assert interpreter(CommandType.SHELL, content) == words


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        (CommandType.SHELL, "#!/no/such/thing\n", "/no/such/thing"),
        (CommandType.BAT, "dir", "cmd.exe"),
        (CommandType.POWER_SHELL, "dir", "pwsh or powershell.exe"),
    ],
)
def test_the_refusal_names_the_missing_interpreter(
    kind: CommandType, content: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/bin")
    with pytest.raises(Refusal, match=says) as refused:
        interpreter(kind, content)
    assert refused.value.code is ErrorCode.COMMAND_NOT_APPLICABLE


# Users.


def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(Refusal, match="no-such-user") as refused:
        find_account("no-such-user")
    assert refused.value.code is ErrorCode.ACCOUNT_NOT_EXISTS


@pytest.mark.parametrize("uid", [65_534, 3_999_999_999])
def test_an_agent_that_is_not_root_may_not_act_as_another_user(
    uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(Refusal, match="may not act as root") as refused:
        find_account("root")
    assert refused.value.code is ErrorCode.ACCOUNT_NOT_EXISTS


def test_owner_and_group_are_found_by_name() -> None:
    assert owner_ids("", "") == (-1, -1)
    assert owner_ids("root", "root") == (0, 0)
    for names in (("no-such-user", ""), ("", "no-such-group")):
        with pytest.raises(Refusal, match=r"exists: (no-such-user|group no-such-group)$"):
            owner_ids(*names)


def test_only_root_runs_commands_as_another_user() -> None:
    if os.geteuid() != 0:
        with pytest.raises(Refusal, match="may not act as nobody"):
            find_account("nobody")
        return
    account, output = find_account("nobody"), Output()
    with script_file(
        CommandType.SHELL, "id -un; id -Gn; cat $0 | wc -l", account, "heliograph-test-"
    ) as path:
        found = Launch(
            arguments=["/bin/sh", str(path)], folder=Path("/"), account=account, timeout=60, mark="x"
        )
        assert Process().run(found, output) == Exited(0)
    assert output.tail().text.splitlines()[0] == "nobody"
    assert "root" not in output.tail().text


def test_concurrent_commands_keep_their_own_output_and_exit_code() -> None:
    scripts = [f"sleep 0.1; echo {number}; exit {number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        ends = list(pool.map(ran, scripts))
    assert ends == [(Exited(number), f"{number}\n") for number in range(12)]

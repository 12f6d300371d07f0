"""`heliograph assistant …` on one home, with an agent in a thread of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliograph.app.agent import build_agent, serve_agent
from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.operations.assistant import read_keys
from producers.assistant.policy import Policy, digest
from producers.assistant.reporting import Instance
from schemas.errors import InputError
from tests.heliograph.cli.conftest import Commands


@pytest.fixture
def with_key(call: Commands) -> Commands:
    """Commands on a home with a key."""
    call.done("assistant", "key")
    return call


@contextmanager
def agents(home: Path, *instances: str) -> Generator[None]:
    stopping, threads = threading.Event(), list[threading.Thread]()

    def run_agent(instance: str) -> None:
        with Deployment(load({"HELIOGRAPH_HOME": str(home), "HELIOGRAPH_BUS_RESERVE_MB": "0"})) as deployment:
            made = build_agent(
                deployment,
                read_keys(deployment),
                Instance(instance, "cn-hangzhou", 9),
                Policy(),
                secrets={"word": "env:HOME"},
                folder=home / "agents" / instance,
            )
            ready.release()
            serve_agent(made, stopping)
            made.close()
            made.journal.close()

    ready = threading.Semaphore(0)
    for instance in instances:
        threads.append(threading.Thread(target=run_agent, args=(instance,)))
        threads[-1].start()
    for _ in instances:
        assert ready.acquire(timeout=60)
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_a_run_without_a_key_is_refused(call: Commands) -> None:
    says = call.refused("assistant", "run", "hostname", "--instance", "i-1")
    assert "`heliograph assistant key` creates a key" in says
    assert "creates a key" in call.refused("assistant", "agent", "--instance-id", "i-1")


def test_a_key_is_made_once(with_key: Commands) -> None:
    path = with_key.home / "assistant.key"
    written = path.read_text()
    assert "exists and was not changed" in with_key.done("assistant", "key").out
    assert path.read_text() == written


def test_a_run_is_followed_to_its_end_on_every_instance(with_key: Commands) -> None:
    with agents(with_key.home, "i-1", "i-2"):
        words = ("assistant", "run", "echo {{what}}", "--parameter", "what=hello")
        done = with_key.done(*words, "--instance", "i-1", "--instance", "i-2")
        assert "i-1: Success" in done.err
        assert done.out.count("hello") == 2
        failed = with_key("assistant", "run", "exit 4", "--instance", "i-1", "--json")
    assert failed.status == 1
    (row,) = failed.rows
    assert (row["instance"], row["state"], row["exit"]) == ("i-1", "Failed", 4)
    listed = with_key.done("assistant", "list", "--json").rows
    assert [row["state"] for row in listed] == ["Finished", "Finished"]
    execution = listed[0]["execution"]
    records = [
        json.loads(line)
        for line in with_key.done("assistant", "results", execution, "--json").out.splitlines()
    ]
    assert sorted(record["InstanceId"] for record in records) == ["i-1", "i-2"]
    assert {record["Output"] for record in records} == {"hello\n"}
    assert "--- i-2\nhello" in with_key.done("assistant", "results", execution, "--instance", "i-2").out


def test_an_instance_without_an_answer_is_shown_as_pending(with_key: Commands) -> None:
    unanswered = with_key("assistant", "run", "echo", "--instance", "i-9", "--wait", "0.2")
    assert unanswered.status == 1
    assert "check that an agent of i-9 runs, in this region and with this key" in unanswered.out
    assert "not all have ended" in unanswered.err
    with_key.done("assistant", "run", "echo", "--instance", "i-9", "--wait", "0")
    assert [row["state"] for row in with_key.done("assistant", "list", "--json").rows] == [
        "Running",
        "Running",
    ]
    assert with_key.done("assistant", "list", "--state", "Failed", "--json").rows == []
    assert with_key.done("assistant", "list", "--region", "cn-beijing", "--json").rows == []


def test_a_schedule_is_accepted_by_the_agent_and_can_be_stopped(with_key: Commands) -> None:
    with agents(with_key.home, "i-1"):
        taken = with_key.done("assistant", "schedule", "rate(5m)", "echo", "--instance", "i-1", "--json")
        (row,) = taken.rows
        assert (row["state"], row["repeats"]) == ("Scheduled", 1)
        stopped = with_key.done("assistant", "stop", row["execution"], "--json")
        assert [one["state"] for one in stopped.rows] == ["Cancelled"]
        at_start = with_key.done(
            "assistant", "run", "echo", "--at-start", "next", "--instance", "i-1", "--json"
        )
        assert at_start.rows[0]["state"] == "Scheduled"
    listed = with_key.done("assistant", "list", "--json").rows
    assert [(one["state"], one["mode"]) for one in listed] == [
        ("Stopped", "rate(5m)"),
        ("Running", "NextRebootOnly"),
    ]


@pytest.mark.parametrize("data", [b"text\n", bytes(range(256))])
def test_a_file_is_written_on_the_instance(with_key: Commands, tmp_path: Path, data: bytes) -> None:
    source, folder = tmp_path / "source.bin", tmp_path / "there"
    source.write_bytes(data)
    words = ("assistant", "send-file", str(source), "--to", str(folder), "--instance", "i-1")
    with agents(with_key.home, "i-1"):
        with_key.done(*words)
        again = with_key(*words)
        with_key.done(*words, "--overwrite", "--name", "other", "--mode", "0600")
    assert again.status == 1
    assert "File already exists: source.bin" in again.out
    assert (folder / "source.bin").read_bytes() == (folder / "other").read_bytes() == data
    assert (folder / "other").stat().st_mode & 0o777 == 0o600


def test_kept_commands_have_versions_and_can_be_run(with_key: Commands, tmp_path: Path) -> None:
    command = ("assistant", "command")
    script = tmp_path / "greet.sh"
    script.write_text("echo two {{who}}")
    made = with_key.done(
        *command, "create", "greet", "echo one {{who}}", "--description", "Greets"
    ).out.strip()
    assert with_key.done(*command, "clone", "greet", "--file", str(script)).out == "2\n"
    with_key.done(*command, "modify", made, "--timeout", "5")
    (row,) = with_key.done(*command, "list", "--json").rows
    assert (row["command"], row["version"], row["timeout"], row["description"]) == (made, 2, 10, "Greets")
    (shown,) = with_key.done(*command, "show", "greet", "--version", "1", "--json").rows
    assert (shown["content"], shown["digest"]) == ("echo one {{who}}", digest("echo one {{who}}"))
    with agents(with_key.home, "i-1"):
        words = ("assistant", "run", "--kept", "greet", "--parameter", "who=you", "--instance", "i-1")
        assert "two you" in with_key.done(*words).out
        assert "one you" in with_key.done(*words, "--version", "1").out
    with_key.done(*command, "delete", "greet")
    assert with_key.done(*command, "list", "--json").rows == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("run", "give either a SCRIPT or --file"),
        ("run echo --file x", "give either a SCRIPT or --file"),
        ("run echo", "instances: name at least one"),
        ("run echo --instance ../x", "instance '../x'"),
        ("run --file FOLDER --instance i-1", "Is a directory"),
        ("run echo --type Python --instance i-1", "expected RunShellScript, RunBatScript"),
        ("run echo --parameter x --instance i-1", "--parameter 'x': expected KEY=VALUE"),
        ("run echo --parameter x=1 --instance i-1", "the command has no {{x}}"),
        ("run echo --at-start soon --instance i-1", "expected next or every"),
        ("run echo --kept x --instance i-1", "kept: a kept command has its own script"),
        ("run --kept nothing --instance i-1", "command 'nothing': no such command"),
        ("schedule rate(1s) echo --instance i-1", "60 seconds to 7 days"),
        ("schedule nonsense echo --instance i-1", "'nonsense': has 1 fields"),
        ("send-file FOLDER --instance i-1", "Is a directory"),
        ("stop t-1", "execution 't-1': no such execution"),
        ("stop \udcff", "no such execution"),
        ("results t-1", "execution 't-1': has no record"),
        ("list --state Gone", "expected Running, Stopping"),
        ("list --since soon", "time 'soon'"),
        ("agent --instance-id ../x", "--instance-id '../x'"),
        ("agent --instance-id i-1 --region ../x", "--region '../x'"),
        ("run echo --instance i-1 --user 9223372036854775808", "9223372036854775807"),
        ("run \udcff --instance i-1", "the request contains '\\udcff', which UTF-8 cannot encode"),
        ("run echo --username \udcff --instance i-1", "which UTF-8 cannot encode"),
        ("command create \udcff echo", "which UTF-8 cannot encode"),
        ("agent --instance-id i-1 --secret x=hunter2", "--secret x: expected a reference"),
        ("agent --instance-id i-1 --secret 1x=env:A", "--secret '1x': is not a name; write a letter or _"),
        ("agent --instance-id i-1 --allow sha256:ABC", "--allow 'sha256:ABC': expected sha256: and 64"),
        ("command modify x", "give --name, --description or --timeout"),
        ("command show x", "command 'x': no such command"),
        ("command delete x", "command 'x': no such command"),
        ("command create x", "give either a SCRIPT or --file"),
    ],
)
def test_invalid_arguments_are_refused(with_key: Commands, tmp_path: Path, words: str, says: str) -> None:
    found = with_key.refused("assistant", *words.replace("FOLDER", str(tmp_path)).split())
    assert says in found
    assert "hunter2" not in found


def test_quotas_of_the_configuration_apply(with_key: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_ASSISTANT_DAILY_RUNS", "1")
    monkeypatch.setenv("HELIOGRAPH_ASSISTANT_KEPT_COMMANDS", "0")
    with_key.done("assistant", "run", "echo", "--instance", "i-1", "--wait", "0")
    assert "daily_runs" in with_key.refused("assistant", "run", "echo", "--instance", "i-1", "--wait", "0")
    assert "kept_commands" in with_key.refused("assistant", "command", "create", "x", "echo")


def test_a_key_that_is_not_a_file_is_not_made(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_ASSISTANT_KEYS", "env:SOME_KEY")
    assert "env:SOME_KEY is not a file" in call.refused("assistant", "key")


def test_a_second_agent_of_an_instance_is_refused(with_key: Commands) -> None:
    with (
        agents(with_key.home, "i-1"),
        Deployment(load({"HELIOGRAPH_HOME": str(with_key.home)})) as deployment,
        pytest.raises(InputError, match="another agent uses this journal"),
    ):
        build_agent(
            deployment,
            read_keys(deployment),
            Instance("i-1", "cn-hangzhou", 9),
            Policy(),
            secrets={},
            folder=with_key.home / "agents" / "i-1",
        )

"""The commands below `heliograph dead-letters`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest

from heliograph.operations.dead_letters import DeadLetter, Letter, read_letters
from heliograph.operations.history import History
from tests.acceptance.product import Hook
from tests.heliograph.cli.conftest import Commands

TWO = """
[[subscription]]
name = "states"
names = ["Instance:*"]
target = [{{ id = "hook", kind = "callback", url = "{url}/states", retry = {{ tries = 1 }} }}]

[[subscription]]
name = "disks"
names = ["Disk:*"]
target = [{{ id = "disk-hook", kind = "callback", url = "{url}/disks", retry = {{ tries = 1 }} }}]
"""
RUN = ("run", "--until-idle")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as found:
        found.statuses = {"/states": 500, "/disks": 404}
        yield found


@pytest.fixture
def with_letters(call: Commands, hook: Hook) -> Commands:
    """Commands on a home with three dead letters of instances and one of a disk, whose receiver works again."""
    call.done("subscriptions", "apply", "-", feed=TWO.format(url=hook.url).encode())
    for resource in ("i-1", "i-2", "i-1"):
        call.done(
            "emit", "Instance:StateChange", "--resource", resource, "--content", "state=Running", "--json"
        )
    call.done("emit", "Disk:DiskOperationCompleted", "--resource", "d-1", "--content", "operation=AttachDisk",
              "--content", "result=accomplished")  # fmt: skip
    call.done(*RUN)
    hook.statuses = {}
    return call


def letters(call: Commands, *words: str) -> list[dict[str, Any]]:
    return call.done("dead-letters", "list", *words, "--json").rows


def test_each_filter_narrows_the_list(with_letters: Commands) -> None:
    every = letters(with_letters)
    assert len(every) == 4
    (disk,) = letters(with_letters, "--target", "disk-hook")
    for words in (
        ("--subscription", "disks"),
        ("--error", "refused"),
        ("--exhausted", "rejected"),
        ("--name", "Disk:*"),
        ("--resource", "d-1"),
        ("--resource", disk["resource"]),
        ("--delivery", disk["delivery"]),
    ):
        assert letters(with_letters, *words) == [disk], words
    assert len(letters(with_letters, "--resource", "i-1", "--since", "1h")) == 2
    assert (
        letters(with_letters, "--until", "1h")
        == letters(with_letters, "--target", "disk-hook", "--name", "Inst*")
        == []
    )
    assert (
        len(letters(with_letters, *(word for one in every[:2] for word in ("--delivery", one["delivery"]))))
        == 2
    )
    assert json.loads(disk["event"])["name"] == "Disk:DiskOperationCompleted"


def test_a_dry_run_prints_counts_and_changes_nothing(with_letters: Commands) -> None:
    rows = with_letters.done("dead-letters", "redrive", "--all", "--dry-run", "--json").rows
    assert rows == [
        {"target": "disk-hook", "subscription": "disks", "error": "refused", "what": "sent", "letters": 1},
        {
            "target": "hook",
            "subscription": "states",
            "error": "receiver-failed",
            "what": "sent",
            "letters": 3,
        },
    ]
    newest = ("dead-letters", "redrive", "--target", "hook", "--order", "newest-per-resource", "--dry-run")
    rows = with_letters.done(*newest, "--json").rows
    assert {row["what"]: row["letters"] for row in rows} == {"sent": 2, "older": 1}
    assert "older" in with_letters.done(*newest).out
    with_letters.done("targets", "suspend", "hook", "--why", "x")
    rows = with_letters.done("dead-letters", "redrive", "--target", "hook", "--dry-run", "--json").rows
    assert [row["what"] for row in rows] == ["suspended"]
    assert len(with_letters.done("deliveries", "list", "--state", "dead", "--json").rows) == 4


def test_redriven_letters_arrive_under_their_delivery_ids(with_letters: Commands, hook: Hook) -> None:
    before = {row["delivery"]: row for row in letters(with_letters)}
    hook.taken.clear()
    answer = with_letters.done("dead-letters", "redrive", "--target", "hook", "--yes", "--json")
    (done,) = answer.rows
    assert done == {"redrive": done["redrive"], "sent": 3}
    assert f"--resume {done['redrive']}" in answer.err
    assert {row["state"] for row in letters(with_letters, "--target", "hook")} == {"under-way"}
    again = with_letters.done("dead-letters", "redrive", "--target", "hook", "--yes", "--json").rows[0]
    assert (again["sent"], again["under-way"]) == (0, 3)
    with_letters.done(*RUN)
    assert hook.bodies == {
        one: [row["event"].encode()] for one, row in before.items() if row["target"] == "hook"
    }
    assert [row["target"] for row in letters(with_letters)] == ["disk-hook"]
    (event,) = {row["source"] for row in before.values() if row["resource"].endswith("i-2")}
    (row,) = with_letters.done("why", event, "--json").rows[:1]
    rows = {one["subscription"]: one for one in with_letters.done("why", event, "--json").rows}
    assert (rows["states"]["state"], rows["states"]["redrive"]) == ("delivered", done["redrive"])
    assert row["attempts"] or not row["matched"]


def test_a_letter_that_is_not_sent_makes_the_exit_status_1(with_letters: Commands) -> None:
    with_letters.done("subscriptions", "delete", "disks")
    answer = with_letters("dead-letters", "redrive", "--all", "--yes", "--json")
    assert answer.status == 1
    assert (answer.rows[0]["sent"], answer.rows[0]["no-target"]) == (3, 1)
    assert [row["state"] for row in letters(with_letters, "--target", "disk-hook")] == ["dead"]


def test_an_interrupted_redrive_prints_the_command_that_resumes_it(
    with_letters: Commands, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.taken.clear()
    words = ("dead-letters", "redrive", "--name", "Instance:*", "--since", "2h", "--rate", "1")

    def batches(history: History, found: Sequence[Letter], size: int = 1) -> Iterator[list[DeadLetter]]:
        yield from islice(read_letters(history, found, size), 1)
        if found:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("heliograph.operations.redrive.read_letters", batches)
        stopped = with_letters(*words, "--yes", "--json")
    assert stopped.status == 130
    (line,) = (line for line in stopped.err.splitlines() if line.startswith("ended early"))
    assert "after 1 of 3" in line
    command = shlex.split(line.partition("resume with: ")[2])
    assert command[:2] == ["heliograph", "dead-letters"]
    resumed = with_letters.done(*command[1:], "--json").rows[0]
    assert (resumed["sent"], resumed["sent-before"]) == (2, 1)
    with_letters.done(*RUN)
    assert sorted(map(len, hook.bodies.values())) == [1, 1, 1]
    assert [row["target"] for row in letters(with_letters)] == ["disk-hook"]


def test_dropped_letters_are_listed_only_on_request(with_letters: Commands) -> None:
    answer = with_letters.done(
        "dead-letters", "drop", "--resource", "i-1", "--why", "superseded by hand", "--yes", "--json"
    )
    assert answer.rows == [{"dropped": 2, "under-way": 0}]
    assert len(letters(with_letters)) == 2
    dropped = [row for row in letters(with_letters, "--include-dropped") if row["state"] == "dropped"]
    assert {row["resource"].rpartition("/")[2] for row in dropped} == {"i-1"}
    (shown,) = with_letters.done("dead-letters", "show", dropped[0]["delivery"], "--json").rows
    assert (shown["state"], shown["why"]) == ("dropped", "superseded by hand")
    assert re.fullmatch(r".+@.+", shown["by"])
    (row,) = with_letters.done("dead-letters", "redrive", "--target", "hook", "--dry-run", "--json").rows
    assert row["letters"] == 1
    named = ("dead-letters", "redrive", "--delivery", dropped[0]["delivery"], "--yes", "--json")
    assert with_letters.done(*named).rows[0]["sent"] == 1
    again = with_letters.done(
        "dead-letters", "drop", "--target", "hook", "--why", "x", "--yes", "--json"
    ).rows
    assert again == [{"dropped": 1, "under-way": 0}]


def test_a_dead_letter_is_printed_for_people(with_letters: Commands) -> None:
    (row,) = letters(with_letters, "--target", "disk-hook")
    text = with_letters.done("dead-letters", "show", row["delivery"]).out
    assert f"event         {row['event']}" in text
    assert "404" in text.splitlines()[-1]


def test_an_unreadable_archive_is_reported_after_the_letters_of_the_bus(with_letters: Commands) -> None:
    archive = with_letters.home / "archive"
    archive.rename(with_letters.home / "elsewhere")
    archive.write_text("not a folder")
    answer = with_letters("dead-letters", "list", "--json")
    assert (answer.status, len(answer.rows)) == (1, 4)
    assert "the archive cannot be read, the result has records of the bus only" in answer.err
    assert with_letters("deliveries", "list", "--json").status == 1


def test_archived_letters_are_redriven(with_letters: Commands, hook: Hook) -> None:
    """The bus is lost with all letters; its subscriptions are applied again."""
    before = {row["delivery"] for row in letters(with_letters)}
    (with_letters.home / "bus.db").unlink()
    with_letters.done("subscriptions", "apply", "-", feed=TWO.format(url=hook.url).encode())
    hook.taken.clear()
    assert with_letters.done("dead-letters", "redrive", "--all", "--yes", "--json").rows[0]["sent"] == 4
    with_letters.done("run", "deliverer", "--until-idle")
    assert set(hook.bodies) == before
    assert letters(with_letters) == []

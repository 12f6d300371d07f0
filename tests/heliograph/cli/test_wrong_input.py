"""Wrong input: one line with the problem and the remedy, exit status 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.heliograph.cli.conftest import Commands


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("emit", "give a NAME"),
        ("emit Nope --resource i-1", "'Nope' is not in the catalogue"),
        ("emit Instance:StateChange --content state=Running", "--resource: missing"),
        ("emit Instance:StateChange --resource i-1", "content lacks state"),
        ("emit Instance:StateChange --resource i-1 --content state", "expected KEY=VALUE"),
        ("emit Instance:StateChange --resource acs:x --content state=Running", "resourceId: "),
        ("emit Instance:StateChange --resource i-1 --content state=Running --level LOUD", "level: 'LOUD'"),
        ("emit --file FOLDER", "Is a directory"),
        ("emit --file FOLDER/nope", "No such file"),
        ("emit --file x --resource i-1", "--file: notifications are appended as they are"),
        ("validate FOLDER", "Is a directory"),
        ("names Nope", "'Nope' is not in the catalogue"),
        ("tail nope", "no topic named 'nope'"),
        ("tail events.ecs.instance --from soon", "start 'soon': expected earliest"),
        ("subscriptions apply FOLDER", "Is a directory"),
        ("subscriptions show nope", "no subscription named 'nope'"),
        ("subscriptions delete nope", "no subscription named 'nope'"),
        ("subscriptions enable nope", "no subscription named 'nope'"),
        ("subscriptions test nope", "no subscription named 'nope'"),
        ("subscriptions explain nope", "event 'nope': not in the topics"),
        ("subscriptions explain events.ecs.instance:0:99", "not in the topics"),
        ("events list --level LOUD", "level 'LOUD': expected CRITICAL, WARN, INFO"),
        ("events list --since soon", "time 'soon': expected"),
        ("events show nope", "event 'nope': not in the topics"),
        ("events why nope", "event 'nope': not in the topics"),
        ("deliveries list --state gone", "state 'gone': expected delivered, dropped, dead"),
        ("deliveries list --event 7", "expected topic:partition:offset"),
        ("deliveries show nope", "no delivery 'nope' in topics or archive"),
        ("deliveries list --since soon", "time 'soon': expected"),
        ("dead-letters show nope", "delivery 'nope': not a dead letter that the filter selects"),
        ("dead-letters list --error nope", "'nope' is not one of 'unreachable'"),
        ("dead-letters list --until soon", "time 'soon': expected"),
        ("dead-letters redrive", "no filter given: select dead letters (--target, --since …), or give --all"),
        ("dead-letters redrive --all --order best", "order 'best': expected oldest, newest-per-resource"),
        ("dead-letters redrive --all --resume 7", "redrive '7': not a redrive id"),
        ("dead-letters redrive --all --rate 0", "--rate"),
        (
            "dead-letters redrive --delivery nope --yes",
            "delivery 'nope': not a dead letter that the filter selects",
        ),
        ("dead-letters drop --why x", "no filter given"),
        ("dead-letters drop --all --yes", "why: is missing"),
        (
            "dead-letters drop --delivery nope --why x",
            "delivery 'nope': not a dead letter that the filter selects",
        ),
        ("events why executions:0:0", "topic 'executions' holds no events"),
        ("why nope", "event 'nope': not in the topics"),
        ("archive read --since soon", "time 'soon': expected"),
        ("archive new-epoch nope", "nothing of it is archived"),
        ("archive verify --expect-head x", "expected KEY=SHA256"),
        ("query selec", "query: "),
        ("run cook", "role 'cook': known are router, deliverer, archiver"),
        ("run --metrics here", "expected HOST:PORT"),
        ("run --metrics localhost:99999", "expected HOST:PORT"),
        ("backup HOME/inside", "inside the home"),
        ("restore FOLDER", "not a backup"),
        ("cook", "No such command"),
        ("tail events.ecs.instance --limit 0", "--limit"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(call: Commands, tmp_path: Path, words: str, says: str) -> None:
    call.emit()
    folder = tmp_path / "folder"
    folder.mkdir()
    put = (word.replace("FOLDER", str(folder)).replace("HOME", str(call.home)) for word in words.split())
    said = call.refused(*put)
    assert says in said
    assert said.count("\n") == 0 or said.startswith("Usage:")


def test_a_wrong_subscription_file_changes_nothing_and_all_its_problems_are_listed(call: Commands) -> None:
    kept = (
        b'[[subscription]]\nname = "kept"\n[[subscription.target]]\nid = "q"\nkind = "topic"\ntopic = "q"\n'
    )
    call.done("subscriptions", "apply", "-", feed=kept)
    said = call.refused(
        "subscriptions",
        "apply",
        "-",
        feed=b"""
        [[subscription]]
        name = "good"
        [[subscription.target]]
        id = "other"
        kind = "topic"
        topic = "other"
        [[subscription]]
        name = "bad"
        levels = ["LOUD"]
        event_type = ["Maintenance"]
        [[subscription.target]]
        id = "x"
        kind = "topic"
        retry = { tries = 0 }
    """,
    )
    assert [
        line for key in ("levels", "event_type", "retry.tries") for line in said.splitlines() if key in line
    ]
    assert len(said.splitlines()) >= 3
    assert [row["name"] for row in call.done("subscriptions", "list", "--json").rows] == ["kept"]


@pytest.mark.parametrize("feed", [b"\xff\xfe", b"x = [", b"", b"subscription = 3", b"[[subscription]]"])
def test_a_file_that_is_no_subscription_file_is_refused(call: Commands, feed: bytes) -> None:
    assert call.refused("subscriptions", "apply", "-", feed=feed)


def test_a_wrong_configuration_stops_commands_and_doctor_reports_it(call: Commands) -> None:
    call.home.mkdir()
    (call.home / "heliograph.toml").write_text("[bus]\npartitions = 0\n[cook]\n")
    said = call.refused("topics").splitlines()
    assert len(said) == 2
    answer = call("doctor", "--json")
    assert answer.status == 1
    assert [row["state"] for row in answer.rows] == ["failed", "failed"]


def test_an_unknown_archive_url_stops_a_run(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_ARCHIVE_URL", "tape://x")
    assert "archive.url: " in call.refused("run", "--until-idle")


def test_a_damaged_bus_is_reported_with_the_remedy(call: Commands) -> None:
    call.home.mkdir()
    (call.home / "bus.db").write_bytes(b"nonsense" * 1000)
    answer = call("topics")
    assert (answer.status, answer.out) == (1, "")
    assert "restore" in answer.err
    assert answer.err.count("\n") == 1


def test_a_home_that_cannot_be_made_is_reported(
    call: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HELIOGRAPH_HOME", str(tmp_path / "file"))
    assert "is not a folder" in call.refused("topics")
    monkeypatch.setenv("HELIOGRAPH_HOME", "/proc/nope")
    answer = call("init")
    assert answer.status == 1
    assert answer.err.startswith("heliograph: /proc/nope")
    assert answer.err.count("\n") == 1

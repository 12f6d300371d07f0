"""The commands and programs of the documents run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import typer.main

from heliograph.cli.main import app
from tests.documents import ROOT, blocks, codes, document, headings, rows, section
from tests.services.kafka import Kafka, kafka

__all__ = ["kafka"]

COMMANDS = document("docs/reference/commands.md")
_BIN = Path(sys.executable).parent
_HOME = re.compile(r"^export HELIOGRAPH_HOME=.*$", re.MULTILINE)
_PROMPT = re.compile(r"^\$ ", re.MULTILINE)


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yields every command that is not a group, with its full name."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, one in inner.items():
        yield from _commands(one, (*path, name))


TREE: dict[str, Any] = dict(_commands(typer.main.get_command(app), ("heliograph",)))


def test_every_command_has_a_section() -> None:
    stated = [heading for heading in headings(COMMANDS) if heading.startswith("heliograph ")]
    assert sorted(stated) == sorted(TREE)


@pytest.mark.parametrize("name", TREE)
def test_every_argument_and_option_is_documented(name: str) -> None:
    parameters = TREE[name].params
    options = [one.opts for one in parameters if one.param_type_name == "option" and one.name != "help"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    text = section(COMMANDS, name)
    stated = [codes(row[0]) for row in rows(text)] if "|---|" in text else []
    assert sorted(one for one in stated if one[0].startswith("-")) == sorted(options)
    assert len([one for one in stated if not one[0].startswith("-")]) == len(arguments)


@pytest.mark.parametrize("name", TREE)
def test_every_example_parses(name: str) -> None:
    examples = re.findall(r"^\$ (.*)$", section(COMMANDS, name), re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[: len(name.split())] == name.split()
        TREE[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize(
    ("status", "words", "feed"),
    [
        (0, "topics --json", ""),
        (1, "validate -", "{}"),
        (2, "subscriptions show nobody", ""),
        (2, "topics --no-such-option", ""),
    ],
)
def test_the_exit_status_is_as_documented(tmp_path: Path, status: int, words: str, feed: str) -> None:
    assert str(status) in {row[0] for row in rows(COMMANDS)}
    done = subprocess.run(
        [_BIN / "heliograph", *words.split()],
        env={"HELIOGRAPH_HOME": str(tmp_path)},
        input=feed.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr


class Tour(NamedTuple):
    """A home after the commands of the README, and their output."""

    home: Path
    printed: str


def _bash(script: str, home: Path) -> str:
    """Runs a script, in which every command must succeed. Returns its output."""
    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", script],
        cwd=home.parent,
        env={
            "PATH": f"{_BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home.parent),
            "HELIOGRAPH_HOME": str(home),
            "HELIOGRAPH_BUS_RESERVE_MB": "0",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _script(*names: str) -> str:
    """Returns the typed lines: those after a prompt, with their here-documents."""
    typed = "\n".join(block.text for block in blocks("console", *names))
    return _PROMPT.sub("", typed)


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    home = tmp_path_factory.mktemp("tour") / "home"
    script, count = _HOME.subn("", _script("README.md"))
    assert count == 1
    return Tour(home, _bash(script, home))


@pytest.mark.xdist_group("tour")
def test_the_tour_of_the_readme_runs(tour: Tour) -> None:
    assert "stalled-disks  created" in tour.printed
    assert "levels: wanted CRITICAL, found INFO" in tour.printed
    assert "archive verified" in tour.printed


@pytest.mark.xdist_group("tour")
@pytest.mark.parametrize(
    "name",
    [
        "docs/tutorial/a-receiver-that-fails.md",
        "docs/how-to/verify-and-query.md",
        "docs/how-to/back-up.md",
    ],
)
def test_the_commands_of_a_guide_run_after_the_tour(tour: Tour, name: str) -> None:
    script = _script(name)
    for place in ("/safe/place", "/srv/backup", "/srv"):
        folder = tour.home.parent / place.lstrip("/").replace("/", "-")
        folder.mkdir(exist_ok=True)
        script = script.replace(place, str(folder))
    _bash(script, tour.home)


@pytest.mark.xdist_group("tour")
def test_the_verifier_of_the_guide_accepts_a_sound_archive_and_finds_damage(
    tour: Tour, tmp_path: Path
) -> None:
    (code,) = (block.text for block in blocks("python", "docs/how-to/verify-and-query.md"))
    archive = tour.home / "archive"
    copy = tmp_path / "archive"
    subprocess.run(["cp", "-r", archive, copy], check=True)
    assert _verified(code, copy).count("is sound up to offset") == len(list(copy.glob("topics/*/*")))
    segment = next(copy.glob("topics/*/*/*.avro"))
    body = bytearray(segment.read_bytes())
    body[-20] ^= 1
    segment.write_bytes(body)
    with pytest.raises(subprocess.CalledProcessError):
        _verified(code, copy)


def _verified(code: str, archive: Path) -> str:
    command = [sys.executable, "-c", code, str(archive)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


QUEUE = """[[subscription]]
name = "instances"
names = ["Instance:StateChange"]
target = [{ id = "disk-work", kind = "topic", topic = "disk-work" }]
"""


@pytest.mark.timeout(120)
def test_the_kafka_clients_of_the_guide_produce_and_consume(tmp_path: Path, kafka: Kafka) -> None:
    namespace = f"guide-{uuid4().hex[:8]}"
    consume, produce = (
        block.text.replace("kafka-1:9092", kafka.address).replace('"heliograph.', f'"{namespace}.')
        for block in blocks("python", "docs/how-to/use-kafka-clients.md")
    )
    home = tmp_path / "home"
    (tmp_path / "queue.toml").write_text(QUEUE)
    url = f"kafka://{kafka.address}?namespace={namespace}"
    cluster = f"export HELIOGRAPH_BUS_URL='{url}' HELIOGRAPH_BUS_PARTITIONS=1\n"
    first = "heliograph emit Instance:StateChange --resource i-0 --content state=Stopped\n"
    _bash(f"{cluster}heliograph subscriptions apply queue.toml\n{first}", home)
    subprocess.run([sys.executable, "-c", produce], check=True, timeout=60)
    _bash(f"{cluster}heliograph run --until-idle", home)
    with subprocess.Popen([sys.executable, "-u", "-c", consume], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        lines = [reader.stdout.readline().split(" ", 2) for _ in range(2)]
        reader.kill()
    ids, keys, values = zip(*lines, strict=True)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert {key.rpartition("/")[2] for key in keys} == {"i-0", "i-1"}
    assert {json.loads(value)["content"]["state"] for value in values} == {"Stopped", "Running"}

"""Printing tables and JSON, escaping, progress and confirmation."""

from __future__ import annotations

import getpass
import io
import json
import os
import socket
import sys
from collections.abc import Iterator

import pytest
import typer

from heliograph.cli.output import (
    MEASURED_ROWS,
    confirm,
    document,
    moment,
    operator,
    progress,
    show,
    text_of,
    visible,
)
from schemas.errors import InputError


def test_the_first_rows_decide_the_width_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"name": "a" * 9, "count": 1}, {"name": "b"}]
    assert show(rows, ("name", "count"), as_json=False) == 2
    assert capsys.readouterr().out == "NAME       COUNT\naaaaaaaaa  1\nb\n"


def test_rows_are_printed_as_they_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    shown_before_the_last: list[str] = []

    def rows() -> Iterator[dict[str, int]]:
        yield from ({"n": number} for number in range(MEASURED_ROWS + 1))
        shown_before_the_last.append(capsys.readouterr().out)
        yield {"n": -1}

    assert show(rows(), ("n",), as_json=False) == MEASURED_ROWS + 2
    assert f"{MEASURED_ROWS}\n" in shown_before_the_last[0]


def test_json_rows_have_every_field_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([{"a": "x\ny", "b": None}, {}], ("a",), as_json=True) == 2
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"a": "x\ny", "b": None},
        {},
    ]


def test_a_document_keeps_lines_and_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    document({"value": '{\n "a": "\x1b[2J"\n}', "headers": {"a": "b"}}, as_json=False)
    assert capsys.readouterr().out == 'value    {\n "a": "\\x1b[2J"\n}\nheaders  {"a":"b"}\n'


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain ü 中", "plain ü 中"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\t", "a\\nb\\t"),
        ("\x9b\u2028", "\\x9b\\u2028"),
    ],
)
def test_control_characters_are_escaped(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_times_are_iso_8601_and_other_bytes_escaped() -> None:
    assert moment(1_554_801_506_922) == "2019-04-09T09:18:26.922Z"
    assert text_of(b"\xff\xc3\xbc") == "\\xffü"


def test_a_time_beyond_the_calendar_stays_a_number() -> None:
    assert moment(2**63 - 1) == str(2**63 - 1)
    assert moment(-(2**63)) == str(-(2**63))


def test_characters_that_change_the_writing_direction_are_escaped() -> None:
    assert visible("a\u202eb\u2066c") == r"a\u202eb\u2066c"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(3, "letters") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress(3, "letters") as advance:
        advance(2)
        advance(1)
    assert isinstance(sys.stderr, Terminal)
    shown = sys.stderr.getvalue()
    assert "letters" in shown
    assert "3/3" in shown


def test_an_operator_is_user_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator() == f"{getpass.getuser()}@{socket.gethostname()}"

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert operator() == f"{os.getuid()}@{socket.gethostname()}"


def test_a_change_is_confirmed_on_the_terminal_unless_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm("redrive 7 dead letters", yes=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(
        InputError, match=r"redrive 7 dead letters: .* is not a terminal, so nobody can confirm; add --yes"
    ):
        confirm("redrive 7 dead letters", yes=False)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    confirm("redrive 7 dead letters", yes=False)
    assert "redrive 7 dead letters? [y/N]" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    with pytest.raises(typer.Exit):
        confirm("redrive 7 dead letters", yes=False)

"""The kinds of targets and their settings."""

import re

import pytest

from schemas.errors import InputError
from schemas.subscription import Target
from sinks.kinds import KINDS, check_settings, find_kind


def problems(kind: str, **settings: object) -> list[str]:
    return check_settings(Target.model_validate({"id": "ops", "kind": kind, **settings}))


def test_an_unknown_kind_is_refused_with_a_list_of_the_known_kinds() -> None:
    expected = f"kind: 'queue' is not a kind of target; known are {', '.join(sorted(KINDS))}"
    with pytest.raises(InputError, match=re.escape(expected)):
        find_kind("queue")
    assert problems("queue") == [expected]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("topic", {"topic": "queue.ops"}),
        ("python", {"function": "audit"}),
        ("callback", {"url": "https://ops.example.com/hook", "method": "GET", "headers": {"A": "env:B"}}),
        ("logs", {"project": "ops", "logstore": "events"}),
        ("object", {}),
    ],
)
def test_valid_settings_have_no_problems(kind: str, settings: dict[str, object]) -> None:
    assert problems(kind, **settings) == []
    assert find_kind(kind) is KINDS[kind]


@pytest.mark.parametrize(
    ("kind", "settings", "lines"),
    [
        ("topic", {}, ["topic: is missing"]),
        (
            "topic",
            {"topic": "rejects"},
            ["topic: 'rejects' is a topic that only heliograph writes to; choose another name"],
        ),
        ("topic", {"topic": 5}, ["topic: must be text in quotes"]),
        (
            "callback",
            {"url": "http://u:hunter2@ops.test/", "timeout": 99, "headers": {"a": 1}, "bogus": "x"},
            [
                "url: must not hold a user or password; use the setting `basic`",
                "timeout: must be less than or equal to 60",
                "headers.a: must be text in quotes",
                "bogus: is not a known key; the known keys are basic, bearer, format, headers, method, signing, timeout, tls, url",
            ],
        ),
        (
            "callback",
            {"url": "http://127.1/"},
            ["url: '127.1' is not an address of four decimal numbers, as in 192.0.2.7"],
        ),
        ("callback", {"url": "http://a/", "method": "PUT"}, ["method: 'PUT' is not one of POST, GET"]),
        (
            "python",
            {"function": "a b"},
            ["function: 'a b' is not module:function, as in audit.changes:handler"],
        ),
    ],
)
def test_every_problem_names_its_key_on_one_line(
    kind: str, settings: dict[str, object], lines: list[str]
) -> None:
    assert problems(kind, **settings) == lines

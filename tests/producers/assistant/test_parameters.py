"""Placeholders of commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.parameters import check_parameters, fill_placeholders, secret_names
from schemas.errors import InputError


def test_placeholders_inside_values_are_not_filled() -> None:
    content = "tar -cf {{of}} {{file}} {{of}} # {{.State}} {{ file }} {{secret:pw}}"
    values = {"of": "/x.tgz", "file": "{{of}}"}
    check_parameters(content, values)
    assert fill_placeholders(content, values, {"pw": "{{file}}"}) == (
        "tar -cf /x.tgz {{of}} /x.tgz # {{.State}} {{ file }} {{file}}"
    )
    assert secret_names(content) == {"pw"}


def test_at_most_twenty_parameters_are_accepted() -> None:
    names = [f"p{number}" for number in range(21)]
    content = " ".join(f"{{{{{name}}}}}" for name in names)
    check_parameters(content.replace(" {{p20}}", ""), dict.fromkeys(names[:20], "x"))
    with pytest.raises(InputError, match="21 are given; at most 20"):
        check_parameters(content, dict.fromkeys(names, "x"))


@pytest.mark.parametrize(
    ("content", "parameters", "says"),
    [
        ("{{a}} {{b}}", {"a": ""}, "'b': the command uses it"),
        ("{{a}}", {"a": "", "c": ""}, r"'c': the command has no \{\{c\}\}"),
        ("{{a}}", {"a b": ""}, "'a b': is not a name"),
        ("{{a}}", {"1a": ""}, "'1a': is not a name"),
        ("{{a}}", {"a" * 65: ""}, "is not a name"),
    ],
)
def test_the_error_names_the_wrong_parameter(content: str, parameters: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_parameters(content, parameters)


@given(st.text())
def test_a_script_without_placeholders_is_unchanged(content: str) -> None:
    if "{{" not in content:
        assert fill_placeholders(content, {}, {}) == content

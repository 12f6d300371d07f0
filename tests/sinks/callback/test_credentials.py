"""The secrets of callbacks: resolved and masked."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from sinks.callback.credentials import Credentials, mask, mask_response
from sinks.callback.settings import CallbackSettings
from sinks.http.response import Response

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def credentials(**settings: Any) -> Credentials:
    return Credentials(CallbackSettings.model_validate({"url": "https://ops.test/", **settings}))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, value in (("token", "token-one\n"), ("password", "pässword"), ("key", KEY)):
        (tmp_path / name).write_text(value)
    return {name: tmp_path / name for name in ("token", "password", "key")}


def test_headers_basic_credentials_and_signers_are_resolved(files: dict[str, Path]) -> None:
    found = credentials(
        headers={"X-Token": f"file:{files['token']}", "X-Team": "ops"},
        basic={"user": "me", "password": f"file:{files['password']}"},
        signing=[f"file:{files['key']}"] * 2,
    ).resolve(0.0)
    assert found.headers == {
        "x-token": "token-one",
        "x-team": "ops",
        "authorization": "Basic bWU6cMOkc3N3b3Jk",
    }
    assert len(found.signers) == 2
    assert {"token-one", "pässword", "bWU6cMOkc3N3b3Jk"} <= set(found.hidden)
    assert "ops" not in found.hidden


def test_unchanged_secrets_give_the_same_object(files: dict[str, Path]) -> None:
    held = credentials(bearer=f"file:{files['token']}", signing=[f"file:{files['key']}"])
    first = held.resolve(0.0)
    assert all(held.resolve(now) is first for now in (0.5, 1.0, 7.0, 1e9))


def test_secrets_are_looked_up_at_most_once_a_second(files: dict[str, Path]) -> None:
    held = credentials(bearer=f"file:{files['token']}")
    held.resolve(0.0)
    files["token"].unlink()
    assert held.resolve(0.9).headers == {"authorization": "Bearer token-one"}
    with pytest.raises(InputError, match=r"^bearer: file:.*token: No such file or directory; "):
        held.resolve(1.0)
    files["token"].write_text("token-two")
    assert held.resolve(1.1).headers == {"authorization": "Bearer token-two"}


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"bearer": "env:BAD"}, "bearer"),
        ({"basic": {"user": "me", "password": "env:BAD"}}, "basic.password"),
        ({"headers": {"X-Token": "env:BAD"}}, "headers.X-Token"),
        ({"signing": ["env:GOOD", "env:BAD"]}, "signing[2]"),
    ],
)
def test_an_unsendable_secret_is_named_without_its_value(
    settings: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOD", KEY)
    monkeypatch.setenv("BAD", "hunter2\r\nX-Evil: 1")
    with pytest.raises(InputError) as refused:
        credentials(**settings).resolve(0.0)
    assert str(refused.value).startswith(f"{where}: env:BAD: ")
    assert "hunter2" not in str(refused.value)


@given(st.text(), st.text(), st.text(st.characters(exclude_characters="*"), min_size=1))
def test_a_secret_is_masked_anywhere_in_a_text(before: str, after: str, secret: str) -> None:
    assert secret not in mask(before + secret + after, [secret])


@given(st.binary(), st.binary())
def test_bytes_that_are_no_text_survive_masking(before: bytes, after: bytes) -> None:
    response = Response(200, before + b"|" + after, {"retry-after": "1"}, "a:1")
    assert mask_response(response, ["\0never\0"]) == response


@given(st.integers(0, 40))
def test_the_beginning_of_a_secret_at_the_end_of_a_body_is_masked(left_off: int) -> None:
    secret = "correct-horse-battery-staple"
    told = f"no such token: {secret}"
    response = Response(401, told[: len(told) - left_off].encode())
    assert secret[:8].encode() not in mask_response(response, [secret, "hunter2"]).body
    assert mask_response(Response(401, b"he is correct"), [secret]).body == b"he is correct"

"""Settings of callbacks."""

import pytest
from pydantic import ValidationError

from schemas.problems import problems
from sinks.callback.settings import CallbackSettings


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": "http://ops.test/", "method": "PUT"},
        {"url": "http://ops.test/", "timeout": 0},
        {"url": "http://ops.test/", "timeout": 61},
        {"url": "http://ops.test/", "headers": {"a b": "c"}},
        {"url": "http://ops.test/", "headers": {"": "c"}},
        {"url": "http://ops.test/", "headers": {"Webhook-Id": "c"}},
        {"url": "http://ops.test/", "headers": {"content-length": "0"}},
        {"url": "http://ops.test/", "headers": {"a": "b\r\nc: d"}},
        {"url": "http://ops.test/", "headers": {"a": ""}},
        {"url": "http://ops.test/", "more": 1},
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CallbackSettings.model_validate(settings)


def test_settings_do_not_show_secrets() -> None:
    settings = CallbackSettings.model_validate(
        {"url": "http://ops.test/", "headers": {"a": "hunter2", "b": "env:TOKEN", "c": "file:/run/token"}}
    )
    for shown in (repr(settings), settings.model_dump_json()):
        assert "hunter2" not in shown
        assert "env:TOKEN" in shown
        assert "file:/run/token" in shown


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "Cookie", "X-Auth-Token", "X-Api-Key", "X-Auth"]
)
def test_a_secret_header_must_be_a_reference(name: str) -> None:
    with pytest.raises(ValidationError, match="env:NAME or file:PATH") as refused:
        CallbackSettings.model_validate({"url": "http://ops.test/", "headers": {name: "hunter2"}})
    assert "hunter2" not in str(refused.value.errors(include_input=False))
    CallbackSettings.model_validate(
        {"url": "http://ops.test/", "headers": {name: "env:TOKEN", "X-Author": "me"}}
    )


URL = {"url": "https://ops.test/"}
BASIC = {"user": "ops", "password": "env:P"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"bearer": "env:T", "basic": BASIC},
            "basic and bearer set the same header, Authorization; keep one",
        ),
        (
            {"bearer": "env:T", "headers": {"AUTHORIZATION": "env:A"}},
            "bearer and headers.AUTHORIZATION set the",
        ),
        ({"basic": BASIC, "headers": {"Authorization": "env:A"}}, "basic and headers.Authorization set the"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "X-A is set twice"),
        ({"headers": {"ce-id": "1"}}, "ce-id is set by heliograph"),
        ({"headers": {"Webhook-Signature": "1"}}, "Webhook-Signature is set by heliograph"),
        ({"headers": {"Expect": "100-continue"}}, "Expect is set by heliograph"),
        (
            {"headers": {"Content-Type": "a/b"}, "format": "cloudevents-batch"},
            "Content-Type is set by format",
        ),
        ({"method": "GET", "signing": ["env:K"]}, "GET sends no body"),
        ({"method": "GET", "format": "cloudevents-binary"}, "GET sends no body"),
        ({"bearer": "hunter2"}, "write env:NAME or file:PATH"),
        ({"basic": {"user": "ops", "password": "hunter2"}}, "write env:NAME or file:PATH"),
        (
            {"basic": {"user": "a:b", "password": "env:P"}},
            "basic.user: must not hold a control character, nor a colon",
        ),
        ({"signing": ["env:K", "whsec_hunter2"]}, "write env:NAME or file:PATH"),
        ({"signing": ["env:K"] * 9}, "signing"),
        ({"tls": {"key": "/k"}}, "key and key_password need `certificate`; name its file"),
        ({"tls": {"certificate": "/c", "key_password": "hunter2"}}, "write env:NAME or file:PATH"),
        ({"tls": {"verify": False}}, "verify"),
        ({"format": "xml"}, "format"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CallbackSettings.model_validate(URL | settings)
    told = "\n".join(problems(refused.value, CallbackSettings))
    assert problem in told
    assert "hunter2" not in told


def test_tls_settings_need_an_https_url() -> None:
    with pytest.raises(ValidationError, match="which has no TLS"):
        CallbackSettings.model_validate({"url": "http://ops.test/", "tls": {"ca": "/ca.pem"}})


def test_all_settings_are_accepted_together() -> None:
    CallbackSettings.model_validate(
        URL
        | {
            "format": "cloudevents-structured",
            "basic": BASIC,
            "headers": {"X-Team": "ops"},
            "signing": ["env:OLD", "file:/run/keys/new"],
            "tls": {"ca": "/ca", "certificate": "/c", "key": "/k", "key_password": "env:P"},
        }
    )
    CallbackSettings.model_validate({"url": "http://ops.test/", "headers": {"Content-Type": "a/b"}})

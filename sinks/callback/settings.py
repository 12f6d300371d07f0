"""The settings of kind `callback`, checked for values that can never work."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.policy import Duration
from schemas.secrets import NamedSecret, Secret
from sinks.http.request import FRAMING, check_header_value, is_header_name
from sinks.http.tls import TlsSettings
from sinks.http.url import parse_url

Format = Literal["event", "cloudevents-binary", "cloudevents-structured", "cloudevents-batch"]

_RESERVED = FRAMING | {"webhook-id", "webhook-timestamp", "webhook-signature", "heliograph-source"}
"""Headers that heliograph sets itself, as it does those of CloudEvents."""
_USER = re.compile(r"[^:\x00-\x1f\x7f]*")
_SECRET_NAME = re.compile(
    r"authorization|cookie|token|secret|passw|credential|signature|api-?key|access-?key|auth-?key|(^|-)auth$",
    re.IGNORECASE,
)
"""Matches names of headers whose values are secrets."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BasicSettings(_Settings):
    """User and password of HTTP's basic authentication (RFC 7617)."""

    user: str
    password: NamedSecret

    @field_validator("user")
    @classmethod
    def _sendable_user(cls, user: str) -> str:
        if not _USER.fullmatch(user):
            raise ValueError("must not hold a control character, nor a colon, which ends the user")
        return user


class CallbackSettings(_Settings):
    """Settings of a callback.

    `timeout`: seconds that a whole call may take. `headers`: sent with each call; a value may be `env:NAME` or
    `file:PATH`, and must be one if the header's name says that it is secret. `signing`: references to keys, each of
    which signs every call.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    format: Format = "event"
    timeout: Duration = Field(default=5.0, gt=0, le=60)
    headers: dict[str, Secret] = {}
    bearer: NamedSecret | None = None
    basic: BasicSettings | None = None
    signing: tuple[NamedSecret, ...] = Field(default=(), max_length=8)
    tls: TlsSettings | None = None

    @field_validator("url")
    @classmethod
    def _callable(cls, url: str) -> str:
        parse_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        names = [name.lower() for name in headers]
        for name, value in headers.items():
            if not is_header_name(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if name.lower() in _RESERVED or name.lower().startswith("ce-"):
                raise ValueError(f"{name} is set by heliograph; leave it out")
            if names.count(name.lower()) > 1:
                raise ValueError(f"{name} is set twice, since case makes no difference; keep one")
            if not value.is_reference:
                check_header_value(name, value.reveal())
                _check_written_out(name)
        return headers

    @model_validator(mode="after")
    def _agree(self) -> CallbackSettings:
        credentials = [name for name in ("basic", "bearer") if getattr(self, name) is not None]
        credentials += [f"headers.{name}" for name in self.headers if name.lower() == "authorization"]
        if len(credentials) > 1:
            raise ValueError(f"{' and '.join(credentials)} set the same header, Authorization; keep one")
        if self.format != "event" and any(name.lower() == "content-type" for name in self.headers):
            raise ValueError(f"headers: Content-Type is set by format {self.format}; leave it out")
        if self.method == "GET" and (self.signing or self.format != "event"):
            raise ValueError(
                "method: GET sends no body, so that it has neither signing nor a format; use POST"
            )
        if self.tls is not None and parse_url(self.url).scheme == "http":
            raise ValueError("tls: the URL is http://, which has no TLS; use https:// or leave tls out")
        return self


def _check_written_out(name: str) -> None:
    """Raises ValueError if the header's name says that its value is secret: settings are stored readable on the bus and in
    the archive, so they may only hold references to secrets."""
    if _SECRET_NAME.search(name):
        raise ValueError(
            f"{name} is a secret, and would be readable in topics and archive; write env:NAME or file:PATH"
        )

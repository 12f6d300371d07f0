"""What a call carries that is secret: looked up where it lies, made ready once, and covered in what comes back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from schemas.errors import InputError
from schemas.secrets import Secret
from sinks.callback.settings import CallbackSettings, check_value
from sinks.callback.signing import Signer, signer
from sinks.http.outcomes import Answer

_FRESH = 1.0
"""Seconds for which what was looked up is used."""
_WORD = 8
"""Characters of the shortest part of a secret that is covered by itself: a word, or its beginning where it was cut."""


class Ready(NamedTuple):
    """Secrets as they are now. `headers`: by their names in lower case; `covered`: what must not be shown."""

    headers: dict[str, str]
    signers: Sequence[Signer]
    covered: Sequence[str]


class Credentials:
    """The secrets of one target. One that changes where it lies is in use a second later."""

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings
        self._ready = Ready({}, (), ())
        self._revealed: dict[str, str] | None = None
        self._looked_up = 0.0

    def ready(self, now: float) -> Ready:
        """At `now`, seconds of the monotonic clock; the same object for as long as nothing changes. Raises InputError
        that names the setting and the secret."""
        if self._revealed is None or now - self._looked_up >= _FRESH:
            revealed = {where: _reveal(where, secret) for where, secret in _named(self._settings).items()}
            if revealed != self._revealed:
                self._ready = _made(self._settings, revealed)
                self._revealed = revealed
            self._looked_up = now
        return self._ready


def _reveal(where: str, secret: Secret) -> str:
    """The secret's value. Raises InputError that names the setting."""
    try:
        return secret.reveal()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def covered(text: str, secrets: Sequence[str]) -> str:
    """The text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def without(answer: Answer, secrets: Sequence[str]) -> Answer:
    """The answer with every secret that the receiver repeats covered, also one that its end has cut."""
    beginning = _without_cut(covered(answer.beginning.decode(errors="surrogateescape"), secrets), secrets)
    return msgspec.structs.replace(answer, beginning=beginning.encode(errors="surrogateescape"))


def _without_cut(text: str, secrets: Sequence[str]) -> str:
    """The text without the beginning of a secret at its end."""
    for secret in secrets:
        for length in range(min(len(secret) - 1, len(text)), _WORD - 1, -1):
            if text.endswith(secret[:length]):
                return f"{text[:-length]}***"
    return text


def _named(settings: CallbackSettings) -> dict[str, Secret]:
    """Every secret by the setting that names it."""
    named = {f"headers.{name}": secret for name, secret in settings.headers.items()}
    if settings.bearer is not None:
        named["bearer"] = settings.bearer
    if settings.basic is not None:
        named["basic.password"] = settings.basic.password
    return named | {f"signing[{number}]": secret for number, secret in enumerate(settings.signing, 1)}


def _made(settings: CallbackSettings, revealed: Mapping[str, str]) -> Ready:
    """`revealed`: the values of `_named`."""
    named = _named(settings)
    signers: list[Signer] = []
    for where, value in revealed.items():
        try:
            if where.startswith("signing"):
                signers.append(signer(value))
            else:
                check_value(where, value)
        except (InputError, ValueError) as error:
            raise InputError(f"{where}: {named[where]}: {error}") from None
    headers = {name.lower(): revealed[f"headers.{name}"] for name in settings.headers}
    hidden = [value for where, value in revealed.items() if named[where].is_reference]
    if settings.bearer is not None:
        headers["authorization"] = f"Bearer {revealed['bearer']}"
    if settings.basic is not None:
        headers["authorization"] = _basic(settings.basic.user, revealed["basic.password"])
        hidden.append(headers["authorization"])
    return Ready(headers, signers, _parts(hidden))


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _parts(secrets: Sequence[str]) -> Sequence[str]:
    """The secrets and the longer words of them, as the token of `Bearer token`; the longest first."""
    words = {word for secret in secrets for word in secret.split() if len(word) >= _WORD}
    return sorted({*secrets, *words}, key=len, reverse=True)

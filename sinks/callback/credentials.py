"""The secrets of a callback: resolved from their references, prepared for use, and masked in responses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from schemas.errors import InputError
from schemas.secrets import Secret
from sinks.callback.settings import CallbackSettings
from sinks.callback.signing import Signer, build_signer
from sinks.http.request import check_header_value
from sinks.http.response import Response

_FRESH = 1.0
"""Seconds for which a resolved secret is used before it is looked up again."""
_SHORTEST = 8
"""Characters of the shortest part of a secret that is masked by itself: a word of it, or a beginning that was cut."""


class Resolved(NamedTuple):
    """The secrets of a target, resolved. `headers`: by name in lower case; `hidden`: texts that must be masked."""

    headers: dict[str, str]
    signers: Sequence[Signer]
    hidden: Sequence[str]

    def __repr__(self) -> str:
        """Leaves the values out."""
        return f"Resolved(headers={sorted(self.headers)}, signers={len(self.signers)})"


class Credentials:
    """The secrets of one target. A changed secret is in use within a second."""

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings
        self._resolved = Resolved({}, (), ())
        self._values: dict[str, str] | None = None
        self._looked_up = 0.0

    def resolve(self, now: float) -> Resolved:
        """Returns the secrets; the same object while they do not change. `now`: seconds of the monotonic clock.

        Raises InputError that names the setting and the reference of a secret that is missing or cannot be sent.
        """
        if self._values is None or now - self._looked_up >= _FRESH:
            values = {setting: _reveal(setting, secret) for setting, secret in _list(self._settings).items()}
            if values != self._values:
                self._resolved = _prepare(self._settings, values)
                self._values = values
            self._looked_up = now
        return self._resolved


def mask(text: str, hidden: Sequence[str]) -> str:
    """Returns the text with each secret replaced by `***`."""
    for secret in hidden:
        text = text.replace(secret, "***")
    return text


def mask_response(response: Response, hidden: Sequence[str]) -> Response:
    """Returns the response with each secret in its body masked, also a secret of which the body holds only the
    beginning."""
    body = _mask_cut(mask(response.body.decode(errors="surrogateescape"), hidden), hidden)
    return msgspec.structs.replace(response, body=body.encode(errors="surrogateescape"))


def _reveal(setting: str, secret: Secret) -> str:
    """Returns the secret's value. Raises InputError that names the setting."""
    try:
        return secret.reveal()
    except InputError as error:
        raise InputError(f"{setting}: {error}") from None


def _mask_cut(text: str, hidden: Sequence[str]) -> str:
    """Masks the beginning of a secret at the end of the text."""
    for secret in hidden:
        for length in range(min(len(secret) - 1, len(text)), _SHORTEST - 1, -1):
            if text.endswith(secret[:length]):
                return f"{text[:-length]}***"
    return text


def _list(settings: CallbackSettings) -> dict[str, Secret]:
    """Returns every secret by the setting that names it."""
    secrets = {f"headers.{name}": secret for name, secret in settings.headers.items()}
    if settings.bearer is not None:
        secrets["bearer"] = settings.bearer
    if settings.basic is not None:
        secrets["basic.password"] = settings.basic.password
    return secrets | {f"signing[{number}]": secret for number, secret in enumerate(settings.signing, 1)}


def _prepare(settings: CallbackSettings, values: Mapping[str, str]) -> Resolved:
    """Prepares headers and signers. `values`: the values of the secrets of `_list`, by setting."""
    secrets = _list(settings)
    signers: list[Signer] = []
    for setting, value in values.items():
        try:
            if setting.startswith("signing"):
                signers.append(build_signer(value))
            else:
                check_header_value(setting, value)
        except (InputError, ValueError) as error:
            raise InputError(f"{setting}: {secrets[setting]}: {error}") from None
    headers = {name.lower(): values[f"headers.{name}"] for name in settings.headers}
    hidden = [value for setting, value in values.items() if secrets[setting].is_reference]
    if settings.bearer is not None:
        headers["authorization"] = f"Bearer {values['bearer']}"
    if settings.basic is not None:
        headers["authorization"] = _basic(settings.basic.user, values["basic.password"])
        hidden.append(headers["authorization"])
    return Resolved(headers, signers, _parts(hidden))


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _parts(secrets: Sequence[str]) -> Sequence[str]:
    """Returns the secrets and their longer words, such as the token of `Bearer token`; the longest first."""
    words = {word for secret in secrets for word in secret.split() if len(word) >= _SHORTEST}
    return sorted({*secrets, *words}, key=len, reverse=True)

"""TLS contexts: the trusted authorities and our own certificate, read again when their files change."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.errors import InputError
from schemas.secrets import NamedSecret


class TlsSettings(BaseModel):
    """Paths of PEM files. `ca`: certificates of the authorities to trust instead of the system's; `certificate` and `key`:
    our own; without `key` the key is in the certificate's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: NamedSecret | None = None

    @model_validator(mode="after")
    def _belong_together(self) -> TlsSettings:
        if self.certificate is None and (self.key is not None or self.key_password is not None):
            raise ValueError("key and key_password need `certificate`; name its file")
        return self


class Tls:
    """The context for new connections. Certificate and name of a receiver are always verified."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen: object = None
        self._context: ssl.SSLContext | None = None

    def read_context(self) -> ssl.SSLContext:
        """Returns a context for the files as they are now. Raises InputError that names the setting."""
        if self._settings == TlsSettings():
            return _system_context()
        files = {f"tls.{name}": path for name, path in self._settings if isinstance(path, Path)}
        password = _password(self._settings)
        seen = ([_version(name, path) for name, path in files.items()], password)
        if self._context is None or seen != self._seen:
            self._context = _build(self._settings, password)
            self._seen = seen
        return self._context


@cache
def _system_context() -> ssl.SSLContext:
    return _strict(ssl.create_default_context())


def _build(settings: TlsSettings, password: str) -> ssl.SSLContext:
    try:
        context = _strict(ssl.create_default_context(cafile=settings.ca))
    except (ssl.SSLError, OSError):
        raise InputError(
            f"tls.ca: {settings.ca} holds no certificates in PEM; name a file that does"
        ) from None
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key, lambda: password)
        except (ssl.SSLError, OSError, ValueError):
            raise InputError(
                "tls.certificate: certificate and key are not PEM, do not belong together, or tls.key_password does not open the key"
            ) from None
    return context


def _strict(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _password(settings: TlsSettings) -> str:
    try:
        return "" if settings.key_password is None else settings.key_password.reveal()
    except InputError as error:
        raise InputError(f"tls.key_password: {error}") from None


def _version(setting: str, path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{setting}: {path}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino

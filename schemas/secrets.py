"""Secrets: references in the configuration, whose values are read only when they are used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from schemas.errors import InputError


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A reference `env:NAME` or `file:PATH`, or the value itself. `str()` shows a reference, and masks a value as
    `***`."""

    written: str

    @property
    def is_reference(self) -> bool:
        """True if this is `env:NAME` or `file:PATH`, not a value."""
        return self.written.startswith(("env:", "file:"))

    def reveal(self) -> str:
        """Reads the current value; white space around a file's text is removed. Raises InputError, which never contains
        the value, if the variable or the file cannot be read."""
        where, _, name = self.written.partition(":")
        if not self.is_reference:
            return self.written
        if where == "file":
            return _from_file(Path(name))
        value = os.environ.get(name)
        if value is None:
            raise InputError(
                f"{self}: the environment has no variable {name}; set it before starting heliograph"
            )
        return value

    def __str__(self) -> str:
        return self.written if self.is_reference else "***"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Lets pydantic read a secret from text, and serialise it as text without the value."""
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(min_length=1), serialization=core_schema.to_string_ser_schema()
        )


def _is_named(secret: Secret) -> Secret:
    if not secret.is_reference:
        raise ValueError("would store a secret as readable text; write env:NAME or file:PATH instead")
    return secret


NamedSecret = Annotated[Secret, AfterValidator(_is_named)]
"""A secret that must be a reference, since a topic and the archive store settings as readable text."""


def _from_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"file:{path}: {error.strerror}; correct the path or the file's permissions"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"file:{path}: is not text in UTF-8; write the secret as UTF-8 text") from None

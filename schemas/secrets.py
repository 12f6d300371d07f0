"""Secrets: values that are named where they are configured and looked up where they are used."""

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
    """A reference `env:NAME` or `file:PATH`, or the value itself. Shown, a reference is itself and a value `***`."""

    written: str

    @property
    def is_reference(self) -> bool:
        """Whether the value lies elsewhere."""
        return self.written.startswith(("env:", "file:"))

    def reveal(self) -> str:
        """The value as it is now; a file's without the white space around it. Raises InputError, without the value."""
        where, _, name = self.written.partition(":")
        if not self.is_reference:
            return self.written
        if where == "file":
            return _from_file(Path(name))
        value = os.environ.get(name)
        if value is None:
            raise InputError(
                f"{self}: the environment has no variable {name}; set it where heliograph is started"
            )
        return value

    def __str__(self) -> str:
        return self.written if self.is_reference else "***"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic reads a secret from text, and writes what may be shown of it."""
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(min_length=1), serialization=core_schema.to_string_ser_schema()
        )


def _is_named(secret: Secret) -> Secret:
    if not secret.is_reference:
        raise ValueError("is a secret, and would be kept readable in the log; write env:NAME or file:PATH")
    return secret


NamedSecret = Annotated[Secret, AfterValidator(_is_named)]
"""A secret of which only the reference may be written: settings are kept readable in the log and in its archive."""


def _from_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"file:{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"file:{path}: is not text in UTF-8") from None

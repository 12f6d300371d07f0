"""Who may ask: whoever holds a key of the deployment.

A signature is HMAC-SHA256 over the log's id and the record's bytes, so a request counts in one log only. It also has to
reach the log within `WINDOW` of the time it names; a repeat within that time names an execution that agents know.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from producers.assistant.requests import Request, check, decode, encode
from schemas.errors import InputError
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.secrets import Secret
from schemas.topics import COMMANDS

SIGNATURE = "heliograph-signature"
"""Header of a request: the signature, in hexadecimal digits."""
WINDOW = 300_000
"""Milliseconds."""
_LEAST_KEY = 32
_PURPOSE = b"heliograph commands 1\n"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Keys of a deployment: the first signs, all of them verify, so that a key can be replaced while all goes on."""

    values: tuple[bytes, ...]
    log_id: str

    def signature(self, value: bytes) -> bytes:
        """The signature of a request's bytes, by the first key."""
        return _signature(self.values[0], self.log_id, value)

    def sign(self, request: Request) -> NewRecord:
        """The record of a request. Raises InputError for one beyond a limit."""
        try:
            value = encode(request)
        except UnicodeEncodeError as error:
            raise InputError(f"the request holds {error.object!r:.80}, which is not text in UTF-8") from None
        check(request)
        headers = ((FORMAT, FORMAT_VERSION), (SIGNATURE, self.signature(value)))
        return NewRecord(COMMANDS, value, request.id.encode(), headers)

    def verify(self, record: Record) -> Request:
        """The request of a record that one of the keys has signed, in time. Raises InputError that says why not."""
        given = record.header(SIGNATURE)
        if given is None:
            raise InputError("the request is not signed")
        if not any(
            hmac.compare_digest(given, _signature(key, self.log_id, record.value)) for key in self.values
        ):
            raise InputError("the request is not signed with a key of this deployment, or was changed")
        request = decode(record.value)
        if abs(record.timestamp - request.time) > WINDOW:
            raise InputError(
                f"the request names a time {abs(record.timestamp - request.time) // 1000} s from when it was "
                f"appended, more than {WINDOW // 1000}: a repeat, or a clock that is wrong"
            )
        return request


def open_keys(references: Sequence[Secret], log_id: str) -> Keys:
    """The keys that the references name. Raises InputError for one that is missing or too short."""
    values = tuple(one.reveal().encode() for one in references)
    for reference, value in zip(references, values, strict=True):
        if len(value) < _LEAST_KEY:
            raise InputError(f"assistant.keys: {reference} has fewer than {_LEAST_KEY} characters")
    return Keys(values, log_id)


def make_key(path: Path) -> bool:
    """Write a new key into a file that only its owner can read: whole or not at all. False, and nothing is changed, if
    it is there."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secrets.token_hex(32)}\n")
    try:
        path.hardlink_to(hidden)
    except FileExistsError:
        return False
    finally:
        hidden.unlink()
    return True


def _signature(key: bytes, log_id: str, value: bytes) -> bytes:
    signed = b"".join((_PURPOSE, log_id.encode(), b"\n", value))
    return hmac.digest(key, signed, "sha256").hex().encode()

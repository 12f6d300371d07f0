"""Signs and verifies requests: a request is authorised if it is signed with a key of the deployment.

A signature is HMAC-SHA256 over the log id and the record's bytes, so a request is valid in one deployment only. A
request must also be appended within `WINDOW` of the time that it names. Agents skip a copy that is appended within this
time, since they know its invoke id.
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
"""Largest difference, in milliseconds, between a request's time and the time at which it is appended."""
_LEAST_KEY = 32
_PURPOSE = b"heliograph commands 1\n"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Keys of a deployment. The first key signs and all keys verify, so a key can be replaced while agents run."""

    values: tuple[bytes, ...]
    log_id: str

    def signature(self, value: bytes) -> bytes:
        """Returns the signature of a request's bytes with the first key."""
        return _signature(self.values[0], self.log_id, value)

    def sign(self, request: Request) -> NewRecord:
        """Builds the signed record of a request. Raises InputError for a request beyond a limit."""
        try:
            value = encode(request)
        except UnicodeEncodeError as error:
            raise InputError(
                f"the request contains {error.object!r:.80}, which UTF-8 cannot encode; remove it"
            ) from None
        check(request)
        headers = ((FORMAT, FORMAT_VERSION), (SIGNATURE, self.signature(value)))
        return NewRecord(COMMANDS, value, request.id.encode(), headers)

    def verify(self, record: Record) -> Request:
        """Returns the request of a record. Raises InputError if the signature is wrong or missing, or if the request
        was appended too early or too late."""
        given = record.header(SIGNATURE)
        if given is None:
            raise InputError("the request is not signed; send it with `heliograph assistant`")
        if not any(
            hmac.compare_digest(given, _signature(key, self.log_id, record.value)) for key in self.values
        ):
            raise InputError(
                "the request is not signed with a key of this deployment, or was changed; compare assistant.keys of "
                "caller and agent"
            )
        request = decode(record.value)
        if abs(record.timestamp - request.time) > WINDOW:
            raise InputError(
                f"the request was appended {abs(record.timestamp - request.time) / 1000:g} s from the time that it "
                f"names, more than {WINDOW // 1000} s: it is a copy, or the caller's clock is wrong"
            )
        return request


def open_keys(references: Sequence[Secret], log_id: str) -> Keys:
    """Reads the keys from the secrets that `references` name. Raises InputError for a missing or a short key."""
    values = tuple(one.reveal().encode() for one in references)
    for reference, value in zip(references, values, strict=True):
        if len(value) < _LEAST_KEY:
            raise InputError(
                f"assistant.keys: {reference} has fewer than {_LEAST_KEY} characters; use a longer key"
            )
    return Keys(values, log_id)


def make_key(path: Path) -> bool:
    """Creates a file with a new key, atomically; only its owner can read it. If the file exists, changes nothing and
    returns False."""
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

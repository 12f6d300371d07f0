"""The canonical byte form of archived records: what their sha256 is taken over, whatever format stores them.

All integers are big-endian. A record is its offset and timestamp (8 bytes each, signed), the length of its key (4
bytes; -1 for no key) and the key, its headers, the length of its value (4 bytes) and the value. Headers are their
number (4 bytes) and for each the length of its name (4 bytes), the name in UTF-8, the length of its value (4 bytes)
and the value. A segment's records follow each other without anything between.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from schemas.record import Headers, Record

_POSITION: Final = struct.Struct(">qqi")
_LENGTH: Final = struct.Struct(">I")
_NO_KEY: Final = -1


class HeaderBytes(dict[Headers, bytes]):
    """The canonical bytes of headers, each combination encoded once. For one segment at a time: it only grows."""

    def __missing__(self, headers: Headers) -> bytes:
        """Encode what was not seen before."""
        parts = [_LENGTH.pack(len(headers))]
        for name, value in headers:
            text = name.encode()
            parts += (_LENGTH.pack(len(text)), text, _LENGTH.pack(len(value)), value)
        encoded = self[headers] = b"".join(parts)
        return encoded


class ParsedHeaders(dict[bytes, Headers]):
    """The headers that canonical bytes stand for, each combination parsed once. For one segment at a time."""

    def __missing__(self, encoded: bytes) -> Headers:
        """Parse what was not seen before. Raises ValueError if the bytes are not headers in canonical form."""
        parsed = self[encoded] = _parse(encoded)
        return parsed


def records_sha256(records: Sequence[Record]) -> str:
    """The sha256 over the canonical form of `records`, in hexadecimal digits."""
    parts: list[bytes] = []
    add, position, length, headers = parts.append, _POSITION.pack, _LENGTH.pack, HeaderBytes()
    for record in records:
        key, value = record.key, record.value
        if key is None:
            add(position(record.offset, record.timestamp, _NO_KEY))
        else:
            add(position(record.offset, record.timestamp, len(key)))
            add(key)
        add(headers[record.headers])
        add(length(len(value)))
        add(value)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def object_sha256(body: bytes) -> str:
    """The sha256 of a whole object, in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def _parse(encoded: bytes) -> Headers:
    try:
        (count,) = _LENGTH.unpack_from(encoded)
        at = _LENGTH.size
        headers: list[tuple[str, bytes]] = []
        for _ in range(count):
            name, at = _field(encoded, at)
            value, at = _field(encoded, at)
            headers.append((name.decode(), value))
    except struct.error as error:
        raise ValueError("headers end too early") from error
    if at != len(encoded):
        raise ValueError("headers do not end where they should")
    return tuple(headers)


def _field(encoded: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _LENGTH.unpack_from(encoded, at)
    start = at + _LENGTH.size
    field = encoded[start : start + size]
    if len(field) != size:
        raise ValueError("headers end too early")
    return field, start + size

"""The canonical byte form of archived records: the input of their sha256, the same for every format of files.

All integers are big-endian. A record is its offset and timestamp (8 bytes each, signed), the length of its key (4
bytes; -1 for no key) and the key, its headers, the length of its value (4 bytes) and the value. Headers are their
number (4 bytes) and for each the length of its name (4 bytes), the name in UTF-8, the length of its value (4 bytes)
and the value. A segment's records follow each other without a separator.
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
    """Caches the canonical bytes of headers. It only grows, so use one for each segment."""

    def __missing__(self, headers: Headers) -> bytes:
        """Encodes headers that are not in the cache."""
        parts = [_LENGTH.pack(len(headers))]
        for name, value in headers:
            text = name.encode()
            parts += (_LENGTH.pack(len(text)), text, _LENGTH.pack(len(value)), value)
        encoded = self[headers] = b"".join(parts)
        return encoded


class ParsedHeaders(dict[bytes, Headers]):
    """Caches the headers parsed from canonical bytes. It only grows, so use one for each segment."""

    def __missing__(self, encoded: bytes) -> Headers:
        """Parses bytes that are not in the cache. Raises ValueError if they are not headers in canonical form."""
        parsed = self[encoded] = _parse(encoded)
        return parsed


def records_sha256(records: Sequence[Record]) -> str:
    """Returns the sha256 of the canonical form of records, in hexadecimal digits."""
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
    """Returns the sha256 of a whole object, in hexadecimal digits."""
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
        raise ValueError("headers are cut off") from error
    if at != len(encoded):
        raise ValueError("other bytes follow the headers")
    return tuple(headers)


def _field(encoded: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _LENGTH.unpack_from(encoded, at)
    start = at + _LENGTH.size
    field = encoded[start : start + size]
    if len(field) != size:
        raise ValueError("headers are cut off")
    return field, start + size

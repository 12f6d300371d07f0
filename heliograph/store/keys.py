"""Which keys an object may have, whatever stores it, so that an archive can move from one store to another."""

from __future__ import annotations

from schemas.errors import StoreRefused

KEY_LIMIT = 1024
"""Bytes of the longest key, as in S3."""
PART_LIMIT = 255
"""Bytes of the longest part between two `/`, as in the file systems that are in use."""


def check_key(key: str) -> None:
    """Raise StoreRefused, with what is wrong, unless `key` is relative, `/`-separated and fit for every store."""
    problem = key_problem(key)
    if problem:
        raise StoreRefused(f"object key {key[:200]!r}: {problem}")


def key_problem(key: str) -> str:
    """What keeps `key` from being one; empty if nothing does."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if not 0 < size <= KEY_LIMIT:
        return f"must have 1 to {KEY_LIMIT} bytes, and has {size}"
    if not key.isprintable() or "\\" in key:
        return "holds a character that is not printable, or a backslash"
    for part in key.split("/"):
        if part in {"", ".", ".."}:
            return "must be relative, without empty parts, `.` or `..`"
        if len(part.encode()) > PART_LIMIT:
            return f"has a part of more than {PART_LIMIT} bytes"
    return ""

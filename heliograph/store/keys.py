"""Rules for keys, the same for every store, so that an archive can move from one store to another."""

from __future__ import annotations

from schemas.errors import StoreRefused

KEY_LIMIT = 1024
"""Bytes of the longest key, as in S3."""
PART_LIMIT = 255
"""Bytes of the longest part between two `/`, as in common file systems."""


def check_key(key: str) -> None:
    """Raises StoreRefused, which says what is wrong, unless every store accepts `key`."""
    problem = key_problem(key)
    if problem:
        raise StoreRefused(f"object key {key[:200]!r}: {problem}")


def key_problem(key: str) -> str:
    """Says what is wrong with a key; empty if nothing is."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if not 0 < size <= KEY_LIMIT:
        return f"must have 1 to {KEY_LIMIT} bytes, but has {size}"
    if not key.isprintable() or "\\" in key:
        return "contains a backslash or a character that is not printable"
    for part in key.split("/"):
        if part in {"", ".", ".."}:
            return "must be relative, without empty parts, `.` or `..`"
        if len(part.encode()) > PART_LIMIT:
            return f"has a part of more than {PART_LIMIT} bytes"
    return ""

"""Tests that `put_new` of a store never replaces an object, since the archive's chain relies on that."""

from __future__ import annotations

from uuid import uuid4

from heliograph.store.base import ObjectStore
from schemas.errors import StoreRefused


def probe(store: ObjectStore) -> None:
    """Writes twice under the same new key, reads the object, and deletes it.

    Raises StoreRefused if `put_new` replaces an object, and any error of the store.
    """
    key = f"probe/{uuid4().hex}"
    first = store.put_new(key, b"1")
    try:
        if not first or store.put_new(key, b"2") or store.get(key) != b"1":
            raise StoreRefused(
                f"{store.url}: put_new replaces objects: this store ignores the condition of a write, and is not fit "
                "for an archive; use one that honours If-None-Match (with flavor=oss: x-oss-forbid-overwrite)"
            )
    finally:
        store.delete(key)

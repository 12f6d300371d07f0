"""Chooses the object store by URL: `file:///absolute/path`, `memory://`, `s3://bucket/prefix?…`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from heliograph.store.memory import MemoryStore
from schemas.errors import InputError

OpenStore = Callable[[], ObjectStore]


def open_store(url: str) -> ObjectStore:
    """Opens the object store at `url`. Raises InputError for an invalid URL, StoreError if it cannot be opened."""
    return store_at(url)()


def store_at(url: str) -> OpenStore:
    """Parses `url`, and returns the function that opens the store; opens and looks up nothing yet. Raises InputError for
    an invalid URL."""
    scheme = url.partition("://")[0]
    read = _SCHEMES.get(scheme)
    if read is None or "://" not in url:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        shown = url.partition(":")[0]  # the rest may be a secret
        raise InputError(f"object store {shown!r}…: unknown kind; known are {known}")
    return read(url)


def _folder(url: str) -> OpenStore:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or parts.query or parts.fragment:
        raise InputError(f"object store {url!r}: write file:///absolute/path")
    return partial(FolderStore, path)


def _memory(url: str) -> OpenStore:
    if url != "memory://":
        raise InputError(f"object store {url!r}: write memory:// and nothing after it")
    return MemoryStore


def _s3(url: str) -> OpenStore:
    """Parses the URL of a bucket; loads boto3 only when the store is opened."""
    from heliograph.store.s3.location import parse_location

    location = parse_location(url)

    def open_bucket() -> ObjectStore:
        from heliograph.store.s3 import S3Store

        return S3Store(location)

    return open_bucket


_SCHEMES: dict[str, Callable[[str], OpenStore]] = {
    "file": _folder,
    "memory": _memory,
    "s3": _s3,
}

"""From a URL to an object store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from heliograph.store.memory import MemoryStore
from schemas.errors import InputError

Opener = Callable[[], ObjectStore]


def open_store(url: str) -> ObjectStore:
    """The object store at `url`. Raises InputError for a URL that names none, StoreError if it cannot be opened."""
    return store_at(url)()


def store_at(url: str) -> Opener:
    """What opens the object store at `url`: the URL is read, and nothing is opened or looked up yet. Raises InputError
    for a URL that names none."""
    scheme = url.partition("://")[0]
    read = _SCHEMES.get(scheme)
    if read is None or "://" not in url:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        shown = url.partition(":")[0]  # what follows may be a secret
        raise InputError(f"object store {shown!r}…: unknown kind; known are {known}")
    return read(url)


def _folder(url: str) -> Opener:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or parts.query or parts.fragment:
        raise InputError(f"object store {url!r}: expected file:///absolute/path")
    return partial(FolderStore, path)


def _memory(url: str) -> Opener:
    if url != "memory://":
        raise InputError(f"object store {url!r}: expected memory:// and nothing after it")
    return MemoryStore


def _s3(url: str) -> Opener:
    """A bucket; boto3 is loaded for nothing else."""
    from heliograph.store.s3.location import parse_location

    location = parse_location(url)

    def open_bucket() -> ObjectStore:
        from heliograph.store.s3 import S3Store

        return S3Store(location)

    return open_bucket


_SCHEMES: dict[str, Callable[[str], Opener]] = {
    "file": _folder,
    "memory": _memory,
    "s3": _s3,
}

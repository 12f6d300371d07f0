"""From a URL to an object store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from heliograph.store.memory import MemoryStore
from schemas.errors import InputError


def open_store(url: str) -> ObjectStore:
    """The object store at `url`. Raises InputError for a URL that names none, StoreError if it cannot be opened."""
    scheme = url.partition("://")[0]
    opener = _SCHEMES.get(scheme)
    if opener is None or "://" not in url:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        shown = url.partition(":")[0]  # what follows may be a secret
        raise InputError(f"object store {shown!r}…: unknown kind; known are {known}")
    return opener(url)


def _open_folder(url: str) -> ObjectStore:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or parts.query or parts.fragment:
        raise InputError(f"object store {url!r}: expected file:///absolute/path")
    return FolderStore(path)


def _open_memory(url: str) -> ObjectStore:
    if url != "memory://":
        raise InputError(f"object store {url!r}: expected memory:// and nothing after it")
    return MemoryStore()


def _open_s3(url: str) -> ObjectStore:
    """A bucket; boto3 is loaded for nothing else."""
    from heliograph.store.s3 import S3Store
    from heliograph.store.s3.location import parse_location

    return S3Store(parse_location(url))


_SCHEMES: dict[str, Callable[[str], ObjectStore]] = {
    "file": _open_folder,
    "memory": _open_memory,
    "s3": _open_s3,
}

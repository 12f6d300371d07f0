"""The seam *ObjectStore*: objects of bytes by key.

Synchronous. An implementation is chosen by URL (`heliograph.store.open`): `file:///path`, `memory://`, `s3://bucket/prefix?endpoint=…`.
Every implementation inherits the suite `tests/conformance/store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """Key, size in bytes, and time of the last change in milliseconds since the epoch."""

    key: str
    size: int
    modified: int


class ObjectStore(Protocol):
    """Whole objects by key: relative, `/`-separated, at most 1,024 bytes of UTF-8. Safe to use from several threads.

    Raises StoreUnavailable if a retry may help, StoreRefused if it will not.
    """

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        ...

    def put_new(self, key: str, body: bytes) -> bool:
        """Stores `body` if `key` is free; returns False and changes nothing if it is taken.

        Atomic and durable: of several writers exactly one gets True, and no reader ever sees a part of an object. A writer
        that may not read gets False, like the others, if the answer to its own successful write was lost.
        """
        ...

    def put(self, key: str, body: bytes) -> None:
        """Stores or replaces an object. Atomic and durable."""
        ...

    def get(self, key: str) -> bytes:
        """Reads a whole object. Raises ObjectMissing."""
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object; None if it does not exist."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yields the objects whose key begins with `prefix` and follows `after`, in order of the key's UTF-8 bytes."""
        ...

    def delete(self, key: str) -> None:
        """Deletes an object, if it exists."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...

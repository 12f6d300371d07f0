"""The ObjectStore seam: keys and bytes.

Synchronous. Chosen by URL (`heliograph.store.open`): `file:///path`, `memory://`, `s3://bucket/prefix?endpoint=…`.
Every implementation inherits the suite `tests/conformance/store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """`size` in bytes; `modified` in milliseconds since the epoch."""

    key: str
    size: int
    modified: int


class ObjectStore(Protocol):
    """Keys (`/`-separated, relative, at most 1,024 bytes of UTF-8) and whole objects. Safe from several threads.

    Raises StoreUnavailable where trying again may help, StoreRefused where it will not.
    """

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        ...

    def put_new(self, key: str, body: bytes) -> bool:
        """Store `body` if `key` is free. False, and nothing changed, if it is taken. Atomic and durable: of several
        writers exactly one gets True, and no reader ever sees a part. Where the store may be written but not read, the
        one whose answer was lost gets False like the others."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Store `body`, in place of what is there. Atomic and durable."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of an object; None if there is none."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix` and comes after `after`, in order of the key's UTF-8 bytes."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...

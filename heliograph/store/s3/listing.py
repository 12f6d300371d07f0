"""Lists a bucket in the order of its keys' bytes, as almost every store does by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, takewhile
from typing import Any

from heliograph.store.base import ObjectInfo
from heliograph.store.keys import key_problem
from heliograph.store.s3.client import Client
from heliograph.store.s3.location import Location
from heliograph.store.s3.upload import Do
from schemas.errors import StoreRefused

Page = Mapping[str, Any]


def list_objects(
    client: Client, do: Do, location: Location, *, prefix: str, after: str
) -> Iterator[ObjectInfo]:
    """Yields the objects whose key begins with `prefix` and follows `after`, page by page; skips keys that break our rules.

    SeaweedFS lists folder by folder, so that `a/b` comes before `a-b`; its listing is read whole and sorted. Raises
    StoreRefused if another store lists keys out of order.
    """
    pages = _pages(client, do, location, prefix=prefix, after=after)
    first = next(pages)
    if _server(first).startswith("SeaweedFS"):
        everything = _pages(client, do, location, prefix=prefix, after="") if after else chain([first], pages)
        found: Iterable[ObjectInfo] = sorted(_infos(everything, location), key=_order)
    else:
        found = _in_order(_infos(chain([first], pages), location), location)
    wanted = after.encode()
    yield from (info for info in found if info.key.startswith(prefix) and _order(info) > wanted)


def _in_order(infos: Iterable[ObjectInfo], location: Location) -> Iterator[ObjectInfo]:
    last = b""
    for info in infos:
        if _order(info) <= last:
            raise StoreRefused(f"{location.name}: lists {info.key} out of order; not fit for an archive")
        last = _order(info)
        yield info


def _pages(client: Client, do: Do, location: Location, *, prefix: str, after: str) -> Iterator[Page]:
    wanted = {"Bucket": location.bucket, "Prefix": location.base + _acceptable(prefix)}
    start = {"StartAfter": location.base + _acceptable(after)} if after else {}
    while True:
        page: Page = do(f"list {prefix}", client.list_objects_v2, **wanted, **start)
        yield page
        if not page.get("IsTruncated"):
            return
        start = {"ContinuationToken": page["NextContinuationToken"]}


def _acceptable(text: str) -> str:
    """Cuts `text` before the first part that MinIO refuses. The listing then has more keys, and lacks none."""
    *folders, last = text.split("/")
    good = list(takewhile(lambda part: part not in {"", ".", ".."}, folders))
    whole = len(good) == len(folders) and last not in {".", ".."}
    return text if whole else "".join(f"{part}/" for part in good)


def _infos(pages: Iterable[Page], location: Location) -> Iterator[ObjectInfo]:
    for page in pages:
        for found in page.get("Contents", ()):
            key = found["Key"].removeprefix(location.base)
            if not key_problem(key):
                yield ObjectInfo(key, found["Size"], int(found["LastModified"].timestamp() * 1000))


def _server(page: Page) -> str:
    server: str = page["ResponseMetadata"]["HTTPHeaders"].get("server", "")
    return server


def _order(info: ObjectInfo) -> bytes:
    return info.key.encode()

"""The sum of a topic's manifests: the segments that Parquet files hold, and the beginnings of its chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import msgspec

from archiver.format.canonical import object_sha256
from archiver.format.manifest import (
    Compacted,
    DataFile,
    Erased,
    ErasedSegment,
    Manifest,
    Retired,
    RetiredChain,
    Source,
    decode,
    encode,
    manifest_key,
    manifests_prefix,
)
from archiver.format.naming import parse_key
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken

_READERS = 8


@dataclass(frozen=True, slots=True)
class Covered:
    """A segment whose records are in a Parquet file.

    `file`: index in the ledger's `files`; `since`: time of the commit, in milliseconds since the epoch; `erased`: the
    records that were erased since.
    """

    source: Source
    file: int
    since: int
    erased: ErasedSegment | None = None


@dataclass
class Ledger:
    """The state of a topic after all its manifests; nothing changes it once it is read.

    `number`, `key` and `sha256` are those of the last manifest; 0 and empty if there is none. `files` are in the order
    of their commits. `covered`: by the key of the segment. `generations`: the last one of each day. `retired` and
    `retired_at`: by partition, the segment that retention removed last, and the time of that. `replaced`: keys of files
    that newer files replace, and the time of that. Times are in milliseconds since the epoch.
    """

    topic: str
    number: int = 0
    key: str = ""
    sha256: str = ""
    files: list[DataFile] = field(default_factory=list[DataFile])
    covered: dict[str, Covered] = field(default_factory=dict[str, Covered])
    generations: dict[str, int] = field(default_factory=dict[str, int])
    retired: dict[int, RetiredChain] = field(default_factory=dict[int, RetiredChain])
    retired_at: dict[int, int] = field(default_factory=dict[int, int])
    replaced: dict[str, int] = field(default_factory=dict[str, int])
    retired_records: int = 0

    def is_retired(self, key: str) -> bool:
        """Returns True if the segment with this key lies before the beginning of its chain."""
        name = parse_key(key)
        begin = self.retired.get(name.partition) if name else None
        return begin is not None and key <= begin.key

    def live(self) -> Iterator[Covered]:
        """Returns the covered segments that are not retired."""
        return (each for each in self.covered.values() if not self.is_retired(each.source.key))


def read_ledger(store: ObjectStore, topic: str) -> Ledger:
    """Reads a topic's manifests. Raises ArchiveBroken, naming the key, if one is missing, damaged or out of place."""
    keys = [info.key for info in store.list(manifests_prefix(topic))]
    reduction = _Reduction(topic)
    for key, body in zip(keys, _bodies(store, keys), strict=True):
        try:
            reduction.add(key, body)
        except ArchiveBroken as error:
            raise ArchiveBroken(f"{key}: {error}") from error
    return reduction.ledger


def commit(store: ObjectStore, ledger: Ledger, manifest: Manifest) -> Ledger | None:
    """Appends a manifest to those of `ledger`; returns None and stores nothing if another manifest was first.

    Of the ledger that it returns only number, key, sha256 and generations are new. Raises StoreUnavailable if the store
    did not say whether the manifest was stored.
    """
    key = manifest_key(ledger.topic, ledger.number + 1)
    body = encode(manifest)
    # the same bytes: an earlier try whose answer was lost
    if not store.put_new(key, body) and store.get(key) != body:
        return None
    generations = dict(ledger.generations)
    if isinstance(manifest, Compacted):
        generations[manifest.day] = manifest.generation
    return replace(
        ledger, number=ledger.number + 1, key=key, sha256=object_sha256(body), generations=generations
    )


def _bodies(store: ObjectStore, keys: Sequence[str]) -> Iterator[bytes]:
    if len(keys) <= _READERS:
        yield from map(store.get, keys)
        return
    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(store.get, keys)


class _Reduction:
    """Adds manifests, in their order, to an empty ledger."""

    def __init__(self, topic: str) -> None:
        self.ledger = Ledger(topic)
        self._indexes: dict[str, int] = {}  # of the files in the ledger, by key

    def add(self, key: str, body: bytes) -> None:
        """Adds the next manifest. Raises ArchiveBroken."""
        manifest, ledger = decode(body), self.ledger
        if key != manifest_key(ledger.topic, ledger.number + 1):
            raise ArchiveBroken(
                f"expected manifest {ledger.number + 1} here: it is missing, or this one is extra"
            )
        for name, said, expected in (
            ("topic", manifest.topic, ledger.topic),
            ("previous_sha256", manifest.previous_sha256, ledger.sha256),
        ):
            if said != expected:
                raise ArchiveBroken(f"it has {name} {said!r}, expected {expected!r}")
        match manifest:
            case Compacted():
                self._add_compacted(manifest)
            case Retired():
                self._add_retired(manifest)
            case Erased():
                self._add_erased(manifest)
        ledger.number += 1
        ledger.key, ledger.sha256 = key, object_sha256(body)

    def _add_compacted(self, manifest: Compacted) -> None:
        ledger = self.ledger
        ledger.generations[manifest.day] = manifest.generation
        for file in manifest.files:
            index = self._indexes[file.key] = len(ledger.files)
            for source in file.sources:
                if source.key in ledger.covered:
                    raise ArchiveBroken(f"{source.key} is compacted twice")
                ledger.covered[source.key] = Covered(source, index, manifest.made_at)
            ledger.files.append(file)

    def _add_retired(self, manifest: Retired) -> None:
        ledger = self.ledger
        ledger.retired_records += manifest.records
        for chain in manifest.chains:
            if ledger.retired.get(chain.partition) != chain:
                ledger.retired[chain.partition] = chain
                ledger.retired_at[chain.partition] = manifest.made_at

    def _add_erased(self, manifest: Erased) -> None:
        ledger = self.ledger
        for file in manifest.files:
            index = self._indexes.pop(file.replaces, None)
            if index is None:
                raise ArchiveBroken(f"it replaces {file.replaces}, which no earlier manifest names")
            self._indexes[file.key] = index
            ledger.replaced[file.replaces] = manifest.made_at
            ledger.files[index] = msgspec.structs.replace(
                ledger.files[index], key=file.key, sha256=file.sha256, size=file.size
            )
        for segment in manifest.segments:
            before = ledger.covered.get(segment.key)
            if before is None:
                raise ArchiveBroken(f"it erases records of {segment.key}, which no earlier manifest names")
            ledger.covered[segment.key] = replace(before, erased=segment)

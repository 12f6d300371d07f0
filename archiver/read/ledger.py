"""What a topic's manifests say together: which segments Parquet files hold, and where its chains begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """A segment whose records are in a Parquet file. `since`: when that was committed; `file`: index in the ledger's
    `files`; `erased`: which of its records were erased since."""

    source: Source
    file: int
    since: int
    erased: ErasedSegment | None = None


@dataclass(frozen=True)
class Ledger:
    """A topic's manifests, reduced.

    `files` are in the order of their commits. `key` and `sha256` are those of the last manifest, empty if there is
    none. `retired_at`: when the begin of each retired chain was last moved. `replaced`: files that others stand in for,
    and since when.
    """

    topic: str
    number: int = 0
    key: str = ""
    sha256: str = ""
    files: tuple[DataFile, ...] = ()
    covered: Mapping[str, Covered] = field(default_factory=dict[str, Covered])
    generations: Mapping[str, int] = field(default_factory=dict[str, int])
    retired: Mapping[int, RetiredChain] = field(default_factory=dict[int, RetiredChain])
    retired_at: Mapping[int, int] = field(default_factory=dict[int, int])
    replaced: Mapping[str, int] = field(default_factory=dict[str, int])
    retired_records: int = 0

    def is_retired(self, key: str) -> bool:
        """Whether the segment with this key lies before the beginning of its chain."""
        name = parse_key(key)
        begin = self.retired.get(name.partition) if name else None
        return begin is not None and key <= begin.key

    def live(self) -> Iterator[Covered]:
        """The covered segments that are not retired."""
        return (each for each in self.covered.values() if not self.is_retired(each.source.key))


def read_ledger(store: ObjectStore, topic: str) -> Ledger:
    """Read a topic's manifests. Raises ArchiveBroken, naming the key, if one is missing, damaged or out of place."""
    keys = [info.key for info in store.list(manifests_prefix(topic))]
    ledger = _Reduction(topic)
    for key, body in zip(keys, _bodies(store, keys), strict=True):
        try:
            ledger.add(key, body)
        except ArchiveBroken as error:
            raise ArchiveBroken(f"{key}: {error}") from error
    return ledger.result()


def commit(store: ObjectStore, ledger: Ledger, manifest: Manifest) -> Ledger | None:
    """Put a manifest behind those of `ledger`; returns the new end. None, and nothing happened, if another was first.

    What is returned knows its number, key, sha256 and generations; all else is as before. Raises StoreUnavailable when
    it is not known whether it was stored.
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
    """Adds manifests up."""

    def __init__(self, topic: str) -> None:
        self._ledger = Ledger(topic)
        self._files: list[DataFile] = []
        self._places: dict[str, int] = {}
        self._covered: dict[str, Covered] = {}
        self._generations: dict[str, int] = {}
        self._retired: dict[int, RetiredChain] = {}
        self._retired_at: dict[int, int] = {}
        self._replaced: dict[str, int] = {}
        self._retired_records = 0

    def add(self, key: str, body: bytes) -> None:
        """Take the next manifest. Raises ArchiveBroken."""
        manifest, last = decode(body), self._ledger
        if key != manifest_key(last.topic, last.number + 1):
            raise ArchiveBroken(f"manifest {last.number + 1} is missing before it, or it is one too many")
        for name, said, expected in (
            ("topic", manifest.topic, last.topic),
            ("previous_sha256", manifest.previous_sha256, last.sha256),
        ):
            if said != expected:
                raise ArchiveBroken(f"it says {name} {said!r}, and it must be {expected!r}")
        match manifest:
            case Compacted():
                self._compacted(manifest)
            case Retired():
                self._retire(manifest)
            case Erased():
                self._erased(manifest)
        self._ledger = replace(last, number=last.number + 1, key=key, sha256=object_sha256(body))

    def result(self) -> Ledger:
        """What was added up."""
        return replace(
            self._ledger,
            files=tuple(self._files),
            covered=self._covered,
            generations=self._generations,
            retired=self._retired,
            retired_at=self._retired_at,
            replaced=self._replaced,
            retired_records=self._retired_records,
        )

    def _compacted(self, manifest: Compacted) -> None:
        self._generations[manifest.day] = manifest.generation
        for file in manifest.files:
            self._places[file.key] = len(self._files)
            for source in file.sources:
                if source.key in self._covered:
                    raise ArchiveBroken(f"{source.key} is compacted twice")
                self._covered[source.key] = Covered(source, len(self._files), manifest.made_at)
            self._files.append(file)

    def _retire(self, manifest: Retired) -> None:
        self._retired_records += manifest.records
        for chain in manifest.chains:
            if self._retired.get(chain.partition) != chain:
                self._retired[chain.partition] = chain
                self._retired_at[chain.partition] = manifest.made_at

    def _erased(self, manifest: Erased) -> None:
        for file in manifest.files:
            place = self._places.pop(file.replaces, None)
            if place is None:
                raise ArchiveBroken(f"it replaces {file.replaces}, which no manifest names")
            self._places[file.key] = place
            self._replaced[file.replaces] = manifest.made_at
            self._files[place] = msgspec.structs.replace(
                self._files[place], key=file.key, sha256=file.sha256, size=file.size
            )
        for segment in manifest.segments:
            before = self._covered.get(segment.key)
            if before is None:
                raise ArchiveBroken(f"it erases of {segment.key}, which no manifest names")
            self._covered[segment.key] = replace(before, erased=segment)

"""Manifests: records of the compaction, retention and erasure of a topic's segments.

A topic's manifests are a chain of their own: numbered, each naming the sha256 of the one before it, each put in place
by compare-and-swap. `archiver.read.ledger` is their sum. A manifest is a zstd file of JSON that `zstdcat` shows; a
skippable frame before it holds the sha256 of the rest, so that a change of any byte is found.
"""

from __future__ import annotations

import hashlib
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from archiver.format.segment import FORMAT_VERSION as SEGMENT_VERSION
from archiver.format.segment import SegmentHeader
from schemas.errors import ArchiveBroken

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOT: Final = "compacted/"
"""Prefix of the keys of manifests and Parquet files."""
FORMAT_VERSION: Final = 1
"""Version of the manifests' format. A newer reader reads older versions."""
DAY: Final = 86_400_000
"""Milliseconds of a day."""

_SEAL: Final = b"\x50\x2a\x4d\x18" + (64).to_bytes(4, "little")
"""Header of a skippable frame of 64 bytes (RFC 8878, section 3.1.2)."""
_BODY: Final = len(_SEAL) + 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = -719_162
"""The first day of year 1, in days since the epoch."""
_FILE = re.compile(
    r"compacted/[a-zA-Z0-9._-]+/day=\d{4}-\d\d-\d\d/(?P<made>\d{13})-[0-9a-f]{16}\.parquet", re.ASCII
)


class Source(msgspec.Struct, frozen=True):
    """A segment whose records a Parquet file holds: the data that proves it once its object is gone. `size` in bytes."""

    key: str
    size: int
    object_sha256: str
    header: SegmentHeader


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file, and the segments whose records it holds; it holds every record of each segment. `size` in bytes."""

    key: str
    sha256: str
    size: int
    records: int
    sources: tuple[Source, ...]


class Compacted(msgspec.Struct, frozen=True, kw_only=True, tag="compacted", tag_field="kind"):
    """Compaction of a day's segments to Parquet. `generation`: 1 for the first of the day; late records make the next.

    `made_at`, as in all manifests: milliseconds since the epoch. The day is UTC, in the form 2026-01-31.
    """

    format: int = FORMAT_VERSION
    topic: str
    made_at: int
    previous_sha256: str
    day: str
    generation: int
    files: tuple[DataFile, ...]


class RetiredChain(msgspec.Struct, frozen=True, kw_only=True):
    """The last segment that retention removed from the beginning of a partition's chain, and the offset after it."""

    partition: int
    log_id: str
    epoch: int
    next_offset: int
    key: str
    object_sha256: str


class Retired(msgspec.Struct, frozen=True, kw_only=True, tag="retired", tag_field="kind"):
    """Removal of the beginnings of chains, up to and including the named segments, which are older than `before`."""

    format: int = FORMAT_VERSION
    topic: str
    made_at: int
    previous_sha256: str
    before: int
    segments: int
    records: int
    chains: tuple[RetiredChain, ...]


class ErasedSegment(msgspec.Struct, frozen=True):
    """A segment with erased records. `records_sha256` covers the records left and the marks of erased ones; the segment's
    header keeps the sha256 from before."""

    key: str
    offsets: tuple[int, ...]
    records_sha256: str


class Rewritten(msgspec.Struct, frozen=True):
    """A Parquet file that replaces the one with the key `replaces`; it holds the same segments."""

    replaces: str
    key: str
    sha256: str
    size: int


class Erased(msgspec.Struct, frozen=True, kw_only=True, tag="erased", tag_field="kind"):
    """Erasure of the contents of records. It does not name their subject; `reason` is the operator's."""

    format: int = FORMAT_VERSION
    topic: str
    made_at: int
    previous_sha256: str
    reason: str
    files: tuple[Rewritten, ...]
    segments: tuple[ErasedSegment, ...]


Manifest = Compacted | Retired | Erased


def manifests_prefix(topic: str) -> str:
    """Returns the prefix of the keys of a topic's manifests."""
    return f"{ROOT}{topic}/manifests/"


def files_prefix(topic: str) -> str:
    """Returns the prefix of the keys of a topic's Parquet files."""
    return f"{ROOT}{topic}/day="


def manifest_key(topic: str, number: int) -> str:
    """Returns the key of a topic's manifest; numbers begin at 1."""
    return f"{manifests_prefix(topic)}{number:010d}.json.zst"


def file_key(topic: str, day: str, made: int, unique: str) -> str:
    """Returns the key of a Parquet file begun at `made`, in milliseconds; `unique`: 16 random hexadecimal digits."""
    return f"{files_prefix(topic)}{day}/{made:013d}-{unique}.parquet"


def file_made(key: str) -> int | None:
    """Reads from a Parquet file's key when it was begun, in milliseconds; None if `key` is not the key of one."""
    found = _FILE.fullmatch(key)
    return int(found["made"]) if found else None


def day_number(timestamp: int) -> int:
    """Returns the UTC day of a time in milliseconds, counted from the epoch; earlier times give the first day of year 1."""
    return max(timestamp // DAY, _FIRST_DAY)


def day_name(number: int) -> str:
    """Formats a day as 2026-01-31. Raises OverflowError after year 9999."""
    return (_EPOCH + timedelta(days=number)).date().isoformat()


def encode(manifest: Manifest) -> bytes:
    """Encodes a manifest as an object."""
    body = zstd.compress(msgspec.json.encode(manifest), 6)
    return b"".join((_SEAL, hashlib.sha256(body).hexdigest().encode(), body))


def decode(data: bytes) -> Manifest:
    """Reads a manifest. Raises ArchiveBroken if it is damaged, or of a newer format."""
    body = data[_BODY:]
    if data[:_BODY] != _SEAL + hashlib.sha256(body).hexdigest().encode():
        raise ArchiveBroken("damaged: its bytes do not match the sha256 that it contains")
    try:
        text = zstd.decompress(body)
        version = _VERSION.decode(text).format
        if version > FORMAT_VERSION:
            raise ArchiveBroken(
                f"manifest of format {version}: this version of Heliograph reads up to {FORMAT_VERSION}; use a newer one"
            )
        manifest = _MANIFESTS.decode(text)
    except (zstd.ZstdError, msgspec.MsgspecError) as error:
        raise ArchiveBroken(f"manifest: {error}") from error
    newest = max((source.header.format for source in _sources(manifest)), default=SEGMENT_VERSION)
    if newest > SEGMENT_VERSION:
        raise ArchiveBroken(
            f"names segments of format {newest}: this version of Heliograph reads up to {SEGMENT_VERSION}"
        )
    return manifest


def _sources(manifest: Manifest) -> list[Source]:
    files = manifest.files if isinstance(manifest, Compacted) else ()
    return [source for file in files for source in file.sources]


class _Version(msgspec.Struct, frozen=True):
    format: int


_VERSION = msgspec.json.Decoder(_Version)
_MANIFESTS: msgspec.json.Decoder[Manifest] = msgspec.json.Decoder(Manifest)

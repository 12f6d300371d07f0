"""The one choice of a segment's format: by the suffix of its key.

A new format is a module with the three functions of `SegmentFormat`, a line in `FORMATS`, and its tests.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final, Protocol

from archiver.format import avro
from archiver.format.segment import Segment, SegmentHeader
from schemas.errors import ArchiveBroken
from schemas.record import Record


class SegmentFormat(Protocol):
    """The functions of a module that encodes and decodes segments. All of them raise ArchiveBroken."""

    def encode(self, header: SegmentHeader, records: Sequence[Record]) -> bytes:
        """Returns the object of a segment; the same segment always gives the same bytes."""
        ...

    def decode(self, body: bytes) -> Segment:
        """Reads a whole segment, and fails unless every byte is as it was written."""
        ...

    def read_header(self, body: bytes) -> SegmentHeader:
        """Reads the header alone, with the same checks."""
        ...


FORMATS: Final[dict[str, SegmentFormat]] = {".avro": avro}
"""Formats that can be read, by suffix."""
WRITTEN: Final = ".avro"
"""Suffix of new segments. Archivers race for one key, so all archivers of an archive must write the same suffix."""


def encode_segment(key: str, header: SegmentHeader, records: Sequence[Record]) -> bytes:
    """Returns the object to store under `key`."""
    return _find_format(key).encode(header, records)


def decode_segment(key: str, body: bytes) -> Segment:
    """Reads a whole segment. Raises ArchiveBroken, which names the key."""
    with _naming(key):
        return _find_format(key).decode(body)


def read_segment_header(key: str, body: bytes) -> SegmentHeader:
    """Reads the header of a segment. Raises ArchiveBroken, which names the key."""
    with _naming(key):
        return _find_format(key).read_header(body)


def _find_format(key: str) -> SegmentFormat:
    suffix = PurePosixPath(key).suffix
    if suffix not in FORMATS:
        raise ArchiveBroken(f"no format of segments has the suffix {suffix!r}; known: {', '.join(FORMATS)}")
    return FORMATS[suffix]


@contextmanager
def _naming(key: str) -> Generator[None]:
    try:
        yield
    except ArchiveBroken as error:
        raise ArchiveBroken(f"{key}: {error}") from error

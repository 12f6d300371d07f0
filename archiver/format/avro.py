"""Segments as Avro object container files (Avro 1.12), zstd; read by any Avro reader.

The schema is `schemas/avro/segment.avsc`. The file's metadata holds the segment's header and a seal: the sha256 of the
whole file with the seal's own digits as zeros, so that a change of any byte is found without any other file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from io import BytesIO
from typing import Any, cast

import fastavro

from archiver.format.canonical import HeaderBytes, ParsedHeaders
from archiver.format.segment import Segment, SegmentHeader, decode_header, encode_header
from schemas.errors import ArchiveBroken
from schemas.record import Record

HEADER_ENTRY = "heliograph.segment"
SEAL_ENTRY = "heliograph.sha256"

_SCHEMA = fastavro.parse_schema(
    json.loads(resources.files("schemas.avro").joinpath("segment.avsc").read_bytes())
)
_BLOCK_BYTES = 256 * 1024
"""Bytes of records in a block; at 64 KiB files are 7 % larger, at 1 MiB hardly smaller."""
_COMPRESSION_LEVEL = 1
"""Level of zstd; on notifications level 3 is slower and files are not smaller."""
_UNSEALED = b"0" * 64
_SEAL = re.compile(re.escape(SEAL_ENTRY.encode()) + rb"\x80\x01([0-9a-f]{64})")
"""The entry as Avro writes it: the name, the length of 64 as a zigzag integer, the digits."""


def encode(header: SegmentHeader, records: Sequence[Record]) -> bytes:
    """Encodes a segment. The same segment always gives the same bytes with the same versions of the libraries."""
    buffer = BytesIO()
    fastavro.writer(
        buffer,
        _SCHEMA,
        _rows(records),
        codec="zstandard",
        sync_interval=_BLOCK_BYTES,
        metadata={SEAL_ENTRY: _UNSEALED.decode(), HEADER_ENTRY: encode_header(header).decode()},
        sync_marker=bytes.fromhex(header.records_sha256[:32]),
        codec_compression_level=_COMPRESSION_LEVEL,
    )
    body = buffer.getvalue()
    start, end = _seal_span(body)
    return b"".join((body[:start], hashlib.sha256(body).hexdigest().encode(), body[end:]))


def decode(body: bytes) -> Segment:
    """Reads a whole segment. Raises ArchiveBroken if it is damaged, or of a newer format."""
    rows, header = _open(body)
    topic, partition, headers = header.topic, header.partition, ParsedHeaders()
    with _translated():
        records = [
            Record(
                topic,
                partition,
                row["offset"],
                row["timestamp"],
                row["key"],
                headers[row["headers"]],
                row["value"],
            )
            for row in rows
        ]
    return Segment(header, records)


def read_header(body: bytes) -> SegmentHeader:
    """Reads a segment's header alone. Raises as `decode` does."""
    return _open(body)[1]


def _rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    headers = HeaderBytes()
    for record in records:
        yield {
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": record.key,
            "headers": headers[record.headers],
            "value": record.value,
        }


def _open(body: bytes) -> tuple[Iterator[Mapping[str, Any]], SegmentHeader]:
    """Checks the seal before anything of the file is parsed, so that only unchanged files reach the Avro library."""
    start, end = _seal_span(body)
    unsealed = hashlib.sha256(body[:start])
    unsealed.update(_UNSEALED)
    unsealed.update(memoryview(body)[end:])
    if unsealed.hexdigest().encode() != body[start:end]:
        raise ArchiveBroken("damaged: its bytes do not match the sha256 that it contains")
    with _translated():
        reader = fastavro.reader(BytesIO(body))
        metadata = cast("Mapping[str, str]", reader.metadata)
        return cast("Iterator[Mapping[str, Any]]", reader), decode_header(metadata[HEADER_ENTRY].encode())


@contextmanager
def _translated() -> Generator[None]:
    """Translates every exception of the Avro library to ArchiveBroken.

    A file with a valid seal may still be malformed, since anyone can compute a seal.
    """
    try:
        yield
    except ArchiveBroken:
        raise
    except Exception as error:
        raise ArchiveBroken(f"Avro: {type(error).__name__}: {error}") from error


def _seal_span(body: bytes) -> tuple[int, int]:
    found = _SEAL.search(body)
    if found is None:
        raise ArchiveBroken(f"not a segment: no Avro metadata entry {SEAL_ENTRY}")
    return found.span(1)

"""Partitions of keys are those that the Java client of Apache Kafka chooses."""

from __future__ import annotations

import pytest

from heliograph.bus.partition import murmur2, partition_for


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        (b"", 275646681),
    ],
)
def test_murmur2_gives_the_published_vectors_of_kafka(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected


@pytest.mark.parametrize(
    ("key", "partitions", "expected"),
    [
        (b"foobar", 50, 16),
        (b"foobar", 10, 6),
        (b"1039-36302-36840-2-9f138052", 12, 4),
        (b"1388-20023-36900-2-c9985f66", 12, 0),
        (b"599999", 12, 3),
    ],
)
def test_a_negative_hash_becomes_positive_as_in_kafka(key: bytes, partitions: int, expected: int) -> None:
    assert partition_for(key, partitions) == expected


def test_keys_spread_over_all_partitions() -> None:
    counts = [0] * 4
    for number in range(4000):
        counts[partition_for(f"i-{number:020d}".encode(), 4)] += 1
    assert min(counts) > 800

"""Which partition a key belongs to: the same as Apache Kafka's Java client, so that all producers agree."""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SIGN = 0x80000000


@lru_cache(maxsize=65536)
def murmur2(data: bytes) -> int:
    """Signed 32-bit MurmurHash2 with the seed of Kafka (`org.apache.kafka.common.utils.Utils.murmur2`)."""
    size = len(data)
    whole = size & ~3
    h = _SEED ^ size
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        k = word * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if size > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - ((h & _SIGN) << 1)


def partition_for(key: bytes, partitions: int) -> int:
    """Partition of a key, of `partitions`: what Kafka's default partitioner gives (`toPositive(murmur2(key))`)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions

"""Choice of a partition for a record: as Apache Kafka's Java client chooses it, so that all producers agree."""

from __future__ import annotations

import struct
from functools import lru_cache

from heliograph.bus.admission import check_partition
from schemas.record import NewRecord

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SIGN = 0x80000000


@lru_cache(maxsize=65536)
def murmur2(data: bytes) -> int:
    """Computes the signed 32-bit MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`)."""
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
    """Chooses one of `partitions` for a key as Kafka's default partitioner does (`toPositive(murmur2(key))`)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def place(record: NewRecord, partitions: int, turn: int) -> int:
    """Chooses one of `partitions` for a record: the one it names, else by its key, else `turn` round robin.

    Raises TopicMissing for a partition that does not exist.
    """
    if record.partition is not None:
        check_partition(record.topic, record.partition, partitions)
        return record.partition
    return turn % partitions if record.key is None else partition_for(record.key, partitions)

"""Lanes of a target: which one a resource belongs to, and the keys that spread them over partitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from zlib import crc32

from schemas.subscription import Target

PartitionFor = Callable[[bytes, int], int]
"""The partition of so many that a key is hashed to."""


def lane_of(target: Target, resource: str) -> int:
    """The lane of a resource: all deliveries about it take the same."""
    return crc32(resource.encode()) % target.lanes if target.lanes > 1 else 0


def lane_key(target: str, lane: int, partitions: int, partition_for: PartitionFor) -> bytes:
    """The key of a lane's records: the target's id for its first, and for others one that lands as many partitions
    further on, so that lanes meet in one partition only when there are more of them than partitions."""
    first = target.encode()
    if lane == 0:
        return first
    wanted = (partition_for(first, partitions) + lane) % partitions
    keys = (f"{target}#{lane}.{salt}".encode() for salt in count())
    return next(key for key in keys if partition_for(key, partitions) == wanted)


def share(total: int, lanes: int, lane: int) -> int:
    """What one lane has of a limit that holds for all of them; the shares add up to `total`."""
    return total // lanes + (lane < total % lanes)

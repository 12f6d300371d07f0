"""Lanes of a target: the lane of a resource, keys that spread lanes over partitions, and shares of the target's
limits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from zlib import crc32

from schemas.subscription import Target

PartitionFor = Callable[[bytes, int], int]
"""Returns the partition of a key, given the key and the number of partitions."""


def lane_of(target: Target, resource: str) -> int:
    """Returns the lane of a resource; all deliveries about a resource use the same lane."""
    return crc32(resource.encode()) % target.lanes if target.lanes > 1 else 0


def lane_key(target: str, lane: int, partitions: int, partition_for: PartitionFor) -> bytes:
    """Returns the key of a lane's records. The key of lane 0 is the target's id. The key of lane n falls into the
    partition n places further, so lanes share a partition only if there are more lanes than partitions."""
    first = target.encode()
    if lane == 0:
        return first
    wanted = (partition_for(first, partitions) + lane) % partitions
    keys = (f"{target}#{lane}.{salt}".encode() for salt in count())
    return next(key for key in keys if partition_for(key, partitions) == wanted)


def share(total: int, lanes: int, lane: int) -> int:
    """Returns the share of one lane in a limit of the target, `total`. The shares of all lanes add up to `total`."""
    return total // lanes + (lane < total % lanes)

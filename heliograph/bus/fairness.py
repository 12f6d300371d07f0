"""Fair shares of a batch among partitions."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.record import TopicPartition


def fair_amounts(behind: Mapping[TopicPartition, int], limit: int) -> Mapping[TopicPartition, int]:
    """Divides a batch of `limit` records among partitions that have `behind` records each: what small partitions do not
    use goes to the others.

    If there are more partitions than records to take, the first ones get one record each.
    """
    if len(behind) >= limit:
        return dict.fromkeys(list(behind)[:limit], 1)
    amounts = dict.fromkeys(behind, 0)
    left = limit
    for served, (partition, amount) in enumerate(sorted(behind.items(), key=lambda each: each[1])):
        amounts[partition] = min(amount, left // (len(behind) - served))
        left -= amounts[partition]
    return amounts

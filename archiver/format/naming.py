"""Where segments lie: keys as a pure function of topic, partition, epoch and expected offset.

`topics/<topic>/partition=<p>/<topic>+<p>+<offset, 20 digits>.avro`, and from the second epoch of a partition on
`topics/<topic>/partition=<p>/<topic>+<p>+epoch=<epoch, 10 digits>+<offset, 20 digits>.avro`. The order of the keys'
bytes within a partition is the order of its chain (docs/decisions/0004-archive-epochs.md).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.record import TopicPartition

ROOT = "topics/"
"""What the keys of all segments begin with."""

_KEY = re.compile(
    r"topics/(?P<topic>[a-zA-Z0-9._-]+)/partition=(?P<partition>0|[1-9]\d*)/"
    r"(?P=topic)\+(?P=partition)\+(?:epoch=(?P<epoch>\d{10})\+)?(?P<offset>\d{20})\.avro",
    re.ASCII,
)


class SegmentName(NamedTuple):
    """What a key says of its segment."""

    topic: str
    partition: int
    epoch: int
    expected_offset: int

    @property
    def topic_partition(self) -> TopicPartition:
        """Whose segment it is."""
        return TopicPartition(self.topic, self.partition)


def topic_prefix(topic: str) -> str:
    """What the keys of a topic's segments begin with."""
    return f"{ROOT}{topic}/"


def partition_prefix(topic: str, partition: int) -> str:
    """What the keys of a partition's segments begin with."""
    return f"{ROOT}{topic}/partition={partition}/"


def segment_key(topic: str, partition: int, expected_offset: int, epoch: int = 0) -> str:
    """Key of the segment whose predecessor says that `expected_offset` comes next."""
    number = f"epoch={epoch:010d}+" if epoch else ""
    return f"{partition_prefix(topic, partition)}{topic}+{partition}+{number}{expected_offset:020d}.avro"


def parse_key(key: str) -> SegmentName | None:
    """What `key` says; None if it is not a segment's."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    name = SegmentName(
        found["topic"], int(found["partition"]), int(found["epoch"] or 0), int(found["offset"])
    )
    return name if segment_key(name.topic, name.partition, name.expected_offset, name.epoch) == key else None

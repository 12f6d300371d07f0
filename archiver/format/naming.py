"""Keys of segments: a pure function of topic, partition, epoch and expected offset.

`topics/<topic>/partition=<p>/<topic>+<p>+<offset, 20 digits>.avro`, and from the second epoch of a partition on
`topics/<topic>/partition=<p>/<topic>+<p>+epoch=<epoch, 10 digits>+<offset, 20 digits>.avro`. The order of the keys'
bytes within a partition is the order of its chain (docs/decisions/0004-archive-epochs.md). The suffix names the format
(`archiver.format.segments`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from archiver.format.segments import FORMATS, WRITTEN
from schemas.record import TopicPartition

ROOT = "topics/"
"""Prefix of the keys of all segments."""

_KEY = re.compile(
    r"topics/(?P<topic>[a-zA-Z0-9._-]+)/partition=(?P<partition>0|[1-9]\d*)/"
    r"(?P=topic)\+(?P=partition)\+(?:epoch=(?P<epoch>\d{10})\+)?(?P<offset>\d{20})(?P<suffix>\.[a-z0-9]+)",
    re.ASCII,
)


class SegmentName(NamedTuple):
    """The parts of a segment's key, without its suffix."""

    topic: str
    partition: int
    epoch: int
    expected_offset: int

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic partition that the segment belongs to."""
        return TopicPartition(self.topic, self.partition)


def topic_prefix(topic: str) -> str:
    """Returns the prefix of the keys of a topic's segments."""
    return f"{ROOT}{topic}/"


def partition_prefix(topic: str, partition: int) -> str:
    """Returns the prefix of the keys of a partition's segments."""
    return f"{ROOT}{topic}/partition={partition}/"


def segment_key(
    topic: str, partition: int, expected_offset: int, epoch: int = 0, *, suffix: str = WRITTEN
) -> str:
    """Returns the key of the segment whose predecessor says that `expected_offset` comes next."""
    number = f"epoch={epoch:010d}+" if epoch else ""
    return f"{partition_prefix(topic, partition)}{topic}+{partition}+{number}{expected_offset:020d}{suffix}"


def parse_key(key: str) -> SegmentName | None:
    """Reads the parts of a segment's key; None if `key` is not the key of a segment of a known format."""
    found = _KEY.fullmatch(key)
    if found is None or found["suffix"] not in FORMATS:
        return None
    name = SegmentName(
        found["topic"], int(found["partition"]), int(found["epoch"] or 0), int(found["offset"])
    )
    written = segment_key(
        name.topic, name.partition, name.expected_offset, name.epoch, suffix=found["suffix"]
    )
    return name if written == key else None

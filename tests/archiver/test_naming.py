"""The keys of segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.format.naming import SegmentName, parse_key, partition_prefix, segment_key, topic_prefix

topics = st.from_regex(r"\A[a-zA-Z0-9._-]{1,40}\Z")
numbers = st.integers(0, 10**9)
offsets = st.integers(0, 2**63 - 1)


def test_the_first_epoch_has_the_plain_name() -> None:
    assert (
        segment_key("events.ecs.disk", 3, 17)
        == "topics/events.ecs.disk/partition=3/events.ecs.disk+3+00000000000000000017.avro"
    )


def test_a_later_epoch_is_named() -> None:
    assert segment_key("rejects", 0, 5, 2).endswith("/rejects+0+epoch=0000000002+00000000000000000005.avro")


@given(topics, numbers, offsets, numbers)
def test_a_key_is_parsed_into_its_parts(topic: str, partition: int, offset: int, epoch: int) -> None:
    key = segment_key(topic, partition, offset, epoch)
    assert parse_key(key) == SegmentName(topic, partition, epoch, offset)
    assert key.startswith(partition_prefix(topic, partition))
    assert key.startswith(topic_prefix(topic))


@given(topics, st.tuples(numbers, offsets), st.tuples(numbers, offsets))
def test_keys_of_a_partition_sort_as_its_chain(
    topic: str, one: tuple[int, int], two: tuple[int, int]
) -> None:
    first, second = (segment_key(topic, 0, offset, epoch).encode() for epoch, offset in (one, two))
    assert (first < second) == (one < two)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "topics/a/partition=0/a+0+1.avro",
        "topics/a/partition=0/b+0+00000000000000000001.avro",
        "topics/a/partition=0/a+1+00000000000000000001.avro",
        "topics/a/partition=00/a+00+00000000000000000001.avro",
        "topics/a/partition=0/a+0+epoch=0000000000+00000000000000000001.avro",
        "topics/a/partition=0/a+0+00000000000000000001.avro.tmp",
        "x/topics/a/partition=0/a+0+00000000000000000001.avro",
        "topics/a/partition=0/a+0+00000000000000000001.avro\n",
        "topics/a/partition=0/a+0+retired",
    ],
)
def test_other_keys_are_not_parsed(key: str) -> None:
    assert parse_key(key) is None

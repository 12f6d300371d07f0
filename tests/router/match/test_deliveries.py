"""Delivery records with cached headers equal the plain ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.partition import partition_for
from router.deliveries import Deliveries
from router.match.index import Match
from schemas.delivery import Delivery, delivery_id, delivery_record, read_delivery
from schemas.lanes import lane_key, lane_of
from schemas.record import Record
from schemas.subscription import Target

NAMES = st.text(alphabet="abc-._", min_size=1, max_size=8)
TARGETS = st.builds(
    Target, id=st.from_regex(r"[a-z]{1,8}", fullmatch=True), kind=st.just("k"), lanes=st.integers(1, 8)
)
MATCHES = st.lists(st.builds(Match, NAMES, st.lists(TARGETS, min_size=1, max_size=3).map(tuple)), max_size=4)


@given(
    matches=MATCHES,
    topic=NAMES,
    partition=st.integers(0, 11),
    offset=st.integers(0, 2**62),
    timestamp=st.integers(0, 2**42),
    version=st.integers(0, 2**62),
    resource=st.text(st.characters(codec="utf-8"), max_size=40),
    value=st.binary(max_size=40),
)
def test_a_built_record_equals_the_plain_record(
    matches: list[Match],
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    version: int,
    resource: str,
    value: bytes,
) -> None:
    record = Record(topic, partition, offset, timestamp, b"key", (), value)
    plain = [
        Delivery(
            id=delivery_id("log", record.position, name, target.id),
            source=record.position,
            subscription=name,
            target=target.id,
            resource=resource,
            event=value,
            event_time=timestamp,
            configuration=version,
            lane=(lane := lane_of(target, resource)),
            key=lane_key(target.id, lane, 4, partition_for),
        )
        for name, targets, _ in matches
        for target in targets
    ]
    made = Deliveries("log", version, 4).build(record, resource, matches)
    assert made == [delivery_record(one) for one in plain]
    read = [read_delivery(Record(one.topic, 0, 0, 0, one.key, one.headers, one.value)) for one in made]
    assert read == plain

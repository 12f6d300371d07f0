"""Sinks of kind `object`."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.memory import MemoryBus
from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from heliograph.store.keys import key_problem
from heliograph.store.memory import MemoryStore
from schemas.delivery import Delivered, Delivery, Outcome, ReasonCode, Rejected, Retry
from schemas.errors import StoreRefused, StoreUnavailable
from schemas.record import Position
from schemas.topics import EVENT_LIMIT
from sinks.base import Sink, SinkContext
from sinks.objects.events import DEFAULT_KEY, FIELDS, KIND, ObjectSettings, ObjectSink, build_key, put_event
from tests.conformance.sink import Gate, SinkConformance, SinkDriver, make_delivery

EVENT = (
    b'{"ver": "1.0", "id": "5E-1", "product": "ECS", "name": "Disk:Stalled:Executing", "level": "CRITICAL",'
    b' "resourceId": "acs:ecs:cn-hangzhou:1690:disk/d-1", "userId": "1690", "regionId": "cn-hangzhou",'
    b' "eventTime": "20190409T121826.922+0800", "content": {"diskId": "d-1"}}'
)


def delivery(number: int, event: bytes = EVENT) -> Delivery:
    source = Position("events.ecs.disk", 0, number)
    return Delivery(
        id=f"id{number}",
        source=source,
        subscription="sub",
        target="ops",
        resource="acs:ecs:cn-hangzhou:1690:disk/d-1",
        event=event,
        event_time=1_554_783_506_922,
        configuration=1,
    )


def deliver(store: ObjectStore, batch: Sequence[Delivery], template: str = DEFAULT_KEY) -> Sequence[Outcome]:
    async def send() -> Sequence[Outcome]:
        sink = ObjectSink(partial(put_event, store, template))
        outcomes = await sink.deliver(batch)
        await sink.close()
        return outcomes

    return asyncio.run(send())


def test_an_event_becomes_an_object_byte_for_byte() -> None:
    store = MemoryStore()
    key = "events/ECS/disk/2019-04-09/Disk-Stalled-Executing/id1.json"
    assert deliver(store, [delivery(1)]) == [Delivered(key)]
    assert store.get(key) == EVENT


def test_a_key_may_use_every_field() -> None:
    template = "/".join(f"{{{field}}}" for field in FIELDS)
    assert build_key(ObjectSettings(key=template).key, delivery(1)) == (
        "ECS/disk/Disk-Stalled-Executing/CRITICAL/cn-hangzhou/1690/d-1/5E-1/2019-04-09/04/events.ecs.disk-0-1/sub/ops/id1"
    )


def test_outcomes_are_in_order_of_the_batch(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    batch = [delivery(number, b"[]" if number % 7 == 0 else EVENT) for number in range(100)]
    outcomes = deliver(store, batch, "{delivery}")
    for number, outcome in enumerate(outcomes):
        if number % 7 == 0:
            assert isinstance(outcome, Rejected)
        else:
            assert outcome == Delivered(f"id{number}")
            assert store.get(f"id{number}") == EVENT


def test_a_repeat_is_delivered_and_stored_once() -> None:
    store = MemoryStore()
    first = deliver(store, [delivery(1)])
    assert deliver(store, [delivery(1)]) == first
    assert len(list(store.list(""))) == 1


def test_an_object_with_other_content_is_kept_and_the_delivery_rejected() -> None:
    store = MemoryStore()
    store.put("id1", b"other")
    [outcome] = deliver(store, [delivery(1)], "{delivery}")
    assert isinstance(outcome, Rejected)
    assert "'id1'" in outcome.reason.detail
    assert store.get("id1") == b"other"


class UnclearStore(MemoryStore):
    """Stores the object, but reports a failure."""

    def put_new(self, key: str, body: bytes) -> bool:
        super().put_new(key, body)
        raise StoreUnavailable("connection reset")


class RefusingStore(MemoryStore):
    def put_new(self, key: str, body: bytes) -> bool:
        raise StoreRefused("permission denied")


class ForgetfulStore(MemoryStore):
    """Reports a key as taken although the object is gone."""

    def put_new(self, key: str, body: bytes) -> bool:
        return False


@pytest.mark.parametrize("store", [UnclearStore(), ForgetfulStore()])
def test_an_unavailable_store_is_a_retry(store: ObjectStore) -> None:
    [outcome] = deliver(store, [delivery(1)])
    assert isinstance(outcome, Retry)
    assert outcome.reason.code is ReasonCode.UNAVAILABLE


def test_a_store_that_refuses_is_a_rejection() -> None:
    [outcome] = deliver(RefusingStore(), [delivery(1)])
    assert isinstance(outcome, Rejected)
    assert "permission denied" in outcome.reason.detail


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{nothing}/{delivery}", "known are product, type, name"),
        ("{}/{delivery}", "known are product"),
        ("{0}/{delivery}", "known are product"),
        ("{name.upper}/{delivery}", "known are product"),
        ("{name!r}/{delivery}", "without a format"),
        ("{name:>9}/{delivery}", "without a format"),
        ("{name", "is not a template"),
        ("events/{name}.json", "{delivery} or {source}"),
        ("", "{delivery} or {source}"),
        ("/{delivery}", "relative"),
        ("../{delivery}", "relative"),
        ("a//{source}", "relative"),
        ("a\n{source}", "printable"),
    ],
)
def test_a_template_is_checked_at_load(template: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ObjectSettings(key=template)
    assert said in str(caught.value)


@given(
    st.fixed_dictionaries(
        {name: st.text(max_size=300) for name in ("product", "name", "regionId", "userId", "id")}
    ),
    st.sampled_from(
        [DEFAULT_KEY, "{user}/{region}/{id}/{source}", "{id}{delivery}", "{resource_id}/{delivery}"]
    ),
)
def test_any_event_makes_a_valid_key(fields: dict[str, str], template: str) -> None:
    event = msgspec.json.encode(
        {"level": "INFO", "resourceId": f"acs:ecs:a:b:{fields['name']}/../{fields['id']}", **fields}
    )
    key = build_key(template, delivery(1, event))
    assert key_problem(key) == ""
    assert key.count("/") == template.count("/")


def test_the_kind_writes_into_the_store_of_the_deployment(tmp_path: Path) -> None:
    store = MemoryStore()

    async def send() -> None:
        sink = KIND.build(
            KIND.settings(key="{delivery}"), SinkContext(bus=MemoryBus(), objects=store, logs=tmp_path)
        )
        assert await sink.deliver([delivery(1)]) == [Delivered("id1")]
        await sink.close()

    asyncio.run(send())
    assert store.get("id1") == EVENT


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63)])
def test_any_timestamp_of_a_record_gives_a_valid_key(time: int) -> None:
    late = msgspec.structs.replace(delivery(1), event_time=time)
    assert isinstance(deliver(MemoryStore(), [late])[0], Delivered)


def test_a_key_holds_the_whole_source() -> None:
    topic = f"events.rds.{'x' * 200}"
    batch = [msgspec.structs.replace(delivery(n), source=Position(topic, 0, n)) for n in (1, 2)]
    keys = {build_key("{source}", one) for one in batch}
    assert len(keys) == 2


class GatedStore(MemoryStore):
    """Holds writes at a gate, and has a limit for objects once `limit` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.limit: int | None = None
        self.problem: StoreUnavailable | None = None

    def put_new(self, key: str, body: bytes) -> bool:
        self.gate.enter()
        if self.problem is not None:
            raise self.problem
        if self.limit is not None and len(body) > self.limit:
            raise StoreRefused("the object is too large")
        return super().put_new(key, body)


class StoreDriver(SinkDriver):
    """A driver of a sink on a store in memory."""

    def __init__(self) -> None:
        self.store = GatedStore()

    def refuse_large(self) -> None:
        self.store.limit = EVENT_LIMIT

    def time_out(self) -> None:
        self.store.problem = StoreUnavailable("timed out")

    def hold(self) -> None:
        self.store.gate.shut()

    def is_holding(self) -> bool:
        return self.store.gate.reached.is_set()

    def release(self) -> None:
        self.store.problem = None
        self.store.gate.open()


class ObjectDriver(StoreDriver):
    """Sinks of kind `object`."""

    def build(self, *, patient: bool = True) -> Sink:
        return KIND.build(ObjectSettings(), SinkContext(bus=MemoryBus(), objects=self.store, logs=Path()))

    def make_bad(self, number: int) -> Delivery:
        return make_delivery(number, b"[]")


class TestObjectConformance(SinkConformance):
    @pytest.fixture
    def driver(self) -> SinkDriver:
        return ObjectDriver()

"""Delivery settings: put into force by a position in `subscriptions`, and kept while deliveries use them."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.memory import MemoryBus
from heliograph.operations.delivery_settings import put, read_configuration, remove
from heliograph.operations.subscriptions import apply
from router.configuration import Configuration
from router.executions import ExecutionRouter
from schemas.delivery_settings import (
    BucketDelivery,
    DeliverySettings,
    LogDelivery,
    in_force_record,
    settings_record,
)
from schemas.errors import InputError, NotFound
from schemas.record import NewRecord
from schemas.subscription import Target
from tests.executions import command
from tests.router.events import KINDS, subscription


def settings(region: str, **changes: object) -> DeliverySettings:
    return DeliverySettings.model_validate({"region": region, "bucket": {"url": "memory://"}, **changes})


def test_a_change_applies_from_a_position_of_subscriptions() -> None:
    bus = MemoryBus()
    configuration = Configuration(bus)
    before = apply(bus, [subscription("a")], KINDS).version
    wanted = settings("cn-hangzhou", logs={"project": "ops", "logstore": "runs"})
    version = put(bus, wanted)
    assert version == before + 1
    assert configuration.refresh()
    assert configuration.version == version
    assert dict(configuration.read_settings()) == {"cn-hangzhou": wanted}
    assert set(configuration.read_targets()) == {"a-target", "bucket@cn-hangzhou", "logs@cn-hangzhou"}
    assert set(configuration.subscriptions) == {"a"}
    assert set(configuration.read_subscriptions_at(version)) == {"a"}


def test_an_interrupted_change_applies_only_with_the_next_one() -> None:
    bus = MemoryBus()
    bus.append([settings_record("cn-hangzhou", settings("cn-hangzhou").encode())])
    assert dict(read_configuration(bus).read_settings()) == {}
    put(bus, settings("cn-beijing"))
    assert set(read_configuration(bus).read_settings()) == {"cn-hangzhou", "cn-beijing"}


def test_an_older_position_appended_later_reverts_no_settings() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    put(bus, settings("cn-beijing"))
    bus.append([in_force_record(1)])
    assert set(read_configuration(bus).read_settings()) == {"cn-hangzhou", "cn-beijing"}


def test_a_subscription_target_cannot_have_the_id_of_a_settings_target() -> None:
    (target,) = settings("cn-hangzhou").targets
    with pytest.raises(ValueError, match="is not a name"):
        Target(id=target.id, kind="logs")


def test_settings_are_read_as_they_were_written() -> None:
    bucket = BucketDelivery(
        url="s3://audit", prefix="x", encryption="kms", kms_key="k", file_content="as-sent"
    )
    one = DeliverySettings(
        region="cn-hangzhou", on=False, bucket=bucket, logs=LogDelivery(project="ops", logstore="runs")
    )
    assert DeliverySettings.model_validate_json(one.encode()) == one


def test_settings_without_a_store_are_refused() -> None:
    with pytest.raises(ValueError, match="name a bucket, a project and logstore, or both"):
        DeliverySettings(region="cn-hangzhou")


def test_an_unreadable_record_keeps_the_settings_before_it() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    (bad,) = bus.append([settings_record("cn-hangzhou", b"{}")])
    bus.append([NewRecord("settings", b"1", b"something else"), in_force_record(bad.offset + 2)])
    with structlog.testing.capture_logs() as logged:
        assert set(read_configuration(bus).read_settings()) == {"cn-hangzhou"}
    assert [line["region"] for line in logged] == ["cn-hangzhou"]


def test_settings_that_are_on_cannot_be_removed() -> None:
    bus = MemoryBus()
    for region in ("cn-beijing", "cn-hangzhou", "cn-shanghai"):
        put(bus, settings(region, on=region != "cn-beijing"))
    with pytest.raises(InputError, match=r"is on in cn-hangzhou, cn-shanghai; switch it off"):
        remove(bus, ["cn-hangzhou", "cn-beijing", "cn-shanghai"])
    assert len(read_configuration(bus).read_settings()) == 3
    remove(bus, ["cn-beijing"])
    assert set(read_configuration(bus).read_settings()) == {"cn-hangzhou", "cn-shanghai"}


def test_a_position_beyond_the_end_blocks_no_later_change() -> None:
    bus = MemoryBus()
    follower = Configuration(bus)
    put(bus, settings("cn-hangzhou"))
    bus.append([in_force_record(10**17)])
    follower.refresh()
    assert set(follower.read_settings()) == {"cn-hangzhou"}
    put(bus, settings("cn-beijing"))
    follower.refresh()
    assert set(follower.read_settings()) == {"cn-hangzhou", "cn-beijing"}


def test_several_regions_are_removed_at_once() -> None:
    bus = MemoryBus()
    for region in ("cn-beijing", "cn-hangzhou"):
        put(bus, settings(region, on=False))
    before = read_configuration(bus).version
    assert remove(bus, ["cn-hangzhou", "cn-beijing"]) == before + 1, "no version has only one of them"
    assert read_configuration(bus).read_settings() == {}


@pytest.mark.parametrize("position", [b"", b"-1", b"x", b"9" * 5000])
def test_a_record_without_a_position_changes_nothing(position: bytes) -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    bus.append([msgspec.structs.replace(in_force_record(1), headers=(("settings", position),))])
    assert set(read_configuration(bus).read_settings()) == {"cn-hangzhou"}


def test_settings_with_unfinished_deliveries_cannot_be_removed() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    bus.append([NewRecord("executions", command(number), b"i") for number in range(3)])
    role = ExecutionRouter(bus)
    role.step(0.0)
    role.close()
    put(bus, settings("cn-hangzhou", on=False))
    with pytest.raises(InputError, match=r"on their way to bucket@cn-hangzhou \(3\); wait"):
        remove(bus, ["cn-hangzhou"])
    with pytest.raises(InputError, match=r"on their way to bucket@cn-hangzhou \(3\); wait"):
        put(bus, settings("cn-hangzhou", bucket=None, logs={"project": "ops", "logstore": "runs"}))
    put(bus, settings("cn-hangzhou", logs={"project": "ops", "logstore": "runs"}))
    put(bus, settings("cn-hangzhou"))


def test_removing_a_region_without_settings_is_refused() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-beijing", on=False))
    with pytest.raises(
        NotFound, match=r"region 'cn-hangzhou': has no delivery settings; regions that have some: cn-beijing"
    ):
        remove(bus, ["cn-hangzhou"])


Step = tuple[str, int, bool]
"""The work of one writer: region, prefix that it sets (0 removes), and whether it is killed between its appends."""
STEPS = st.lists(
    st.tuples(st.sampled_from(["cn-a", "cn-b"]), st.integers(0, 3), st.booleans()), min_size=1, max_size=8
)


@given(STEPS, st.randoms(use_true_random=False))
def test_concurrent_writers_put_named_settings_into_force(steps: list[Step], chance: Random) -> None:
    """Writers append settings and then their position, in any order; a model applies those before the last position."""
    bus = MemoryBus()
    follower = Configuration(bus)
    written: list[tuple[str, int]] = []
    named = 0
    late: list[int] = []
    for region, prefix, killed in steps:
        value = (
            settings(region, bucket={"url": "memory://", "prefix": str(prefix)}).encode() if prefix else b""
        )
        bus.append([settings_record(region, value)])
        written.append((region, prefix))
        late += [] if killed else [len(written)]
        while late and chance.random() < 0.6:
            position = late.pop(chance.randrange(len(late)))
            bus.append([in_force_record(position)])
            named = max(named, position)
        model = {region: prefix for region, prefix in dict(written[:named]).items() if prefix}
        follower.refresh()
        for configuration in (follower, read_configuration(bus)):
            found = {
                name: one.bucket.prefix for name, one in configuration.read_settings().items() if one.bucket
            }
            assert found == {name: str(prefix) for name, prefix in model.items()}
            assert set(configuration.read_targets()) == {f"bucket@{name}" for name in model}

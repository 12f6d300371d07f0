"""Building notifications from the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from producers.builder import build
from schemas.catalogue import CATALOGUE
from schemas.errors import InputError, InvalidNotification, NotFound
from schemas.notification import check, warnings
from schemas.times import event_time

NOW = 1_700_000_000_000
GIVEN: Mapping[str, Mapping[str, str]] = {
    "state-change": {"state": "Running"},
    "live-migration": {
        "sourceDedicatedHostId": "dh-1",
        "destinationDedicatedHostId": "dh-2",
        "status": "started",
    },
    "burstable-restricted": {"intervalStart": "2023-11-14T21:00Z", "intervalEnd": "2023-11-14T22:00Z"},
    "performance-mode": {"creditSpecification": "Standard", "operator": "User"},
    "disk-operation": {"operation": "AttachDisk", "result": "accomplished"},
    "conversion": {"result": "accomplished"},
    "disk-release": {"instanceId": "i-1"},
    "stalled": {"device": "/dev/xvdb", "ecsInstanceId": "i-1", "ecsInstanceName": "web"},
    "snapshot": {
        "result": "accomplished",
        "snapshotName": "nightly",
        "snapshotType": "timer",
        "diskId": "d-1",
        "startTime": "2023-11-14T22:00:00Z",
    },
    "network-interface": {
        "operation": "AttachNetworkInterface",
        "eniStatus": "InUse",
        "result": "success",
        "requestId": "r-1",
    },
}


def given(name: str) -> dict[str, str]:
    entry = CATALOGUE[name]
    fields = dict(GIVEN.get(entry.family, {}))
    if entry.category == "scheduled-maintenance":
        fields["notBefore"] = "2023-11-16T00:00:00Z"
    if entry.status == "Executed":
        fields["executeStartTime"] = "2023-11-14T22:00:00Z"
    return fields


def built(name: str, resource: str = "x-1", level: str | None = None, **content: str) -> dict[str, Any]:
    value = build(
        name,
        resource,
        region="cn-hangzhou",
        user="1",
        level=level,
        content={**given(name), **content},
        now_ms=NOW,
    )
    members: dict[str, Any] = json.loads(value)
    return members


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_name_builds_a_notification_without_a_warning(name: str) -> None:
    value = build(name, "x-1", region="cn-hangzhou", user="1", content=given(name), now_ms=NOW)
    assert warnings(value) == []
    routing = check(value)
    assert (routing.name, routing.product, routing.region_id) == (name, "ECS", "cn-hangzhou")
    assert json.loads(value)["eventTime"] == event_time(NOW)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if given(name)])
def test_all_missing_content_fields_are_named_at_once(name: str) -> None:
    with pytest.raises(InputError) as refused:
        build(name, "x-1", region="cn-hangzhou", user="1", content={}, now_ms=NOW)
    assert "\n" not in str(refused.value)
    for field in given(name):
        assert f"{field} (" in str(refused.value)


def test_fields_are_derived_from_name_resource_and_time() -> None:
    members = built("Instance:SystemMaintenance.Reboot:Avoided", "i-1")
    assert members["resourceId"] == "acs:ecs:cn-hangzhou:1:instance/i-1"
    content = members["content"]
    assert str(content.pop("eventId")).startswith("e-")
    assert content == {
        "publishTime": "2023-11-14T22:13:20Z",
        "notBefore": "2023-11-16T00:00:00Z",
        "instanceId": "i-1",
        "eventType": "SystemMaintenance.Reboot",
        "eventStatus": "Avoided",
        "executeStartTime": "2023-11-14T22:13:20Z",
        "executeFinishTime": "2023-11-14T22:13:20Z",
    }


def test_each_notification_has_a_new_id_unless_one_is_given() -> None:
    assert built("Instance:AutoReactivateCompleted")["id"] != built("Instance:AutoReactivateCompleted")["id"]
    value = build(
        "Instance:AutoReactivateCompleted", "i", region="r", user="1", content={}, now_ms=NOW, id="mine"
    )
    assert check(value).id == "mine"


def test_a_whole_resource_name_gives_region_and_user() -> None:
    members = built("Disk:ConvertToPostpaidCompleted", "acs:ecs:cn-beijing:42:disk/d-9")
    assert (members["regionId"], members["userId"]) == ("cn-beijing", "42")
    assert members["content"] == {"diskId": "d-9", "result": "accomplished"}


def test_a_failed_result_has_its_own_level_unless_one_is_given() -> None:
    assert built("Disk:DiskOperationCompleted")["level"] == "INFO"
    assert built("Disk:DiskOperationCompleted", result="failed")["level"] == "WARN"
    assert built("Disk:DiskOperationCompleted", level="CRITICAL", result="failed")["level"] == "CRITICAL"


def test_undocumented_content_fields_are_kept() -> None:
    content = built("Instance:StateChange", zone="cn-hangzhou-b")["content"]
    assert content["zone"] == "cn-hangzhou-b"


def test_an_ended_migration_requires_its_start_time() -> None:
    with pytest.raises(InputError, match=r"startTime \("):
        built("Instance:LiveMigrationAcrossDDH", status="failed")
    content = built("Instance:LiveMigrationAcrossDDH", status="failed", startTime="2023-11-14T22:00:00Z")[
        "content"
    ]
    assert content["endTime"] == "2023-11-14T22:13:20Z"


def test_wrong_content_is_refused_with_the_allowed_values() -> None:
    with pytest.raises(InputError, match="state must be Created or Pending or"):
        built("Instance:StateChange", state="Sleeping")
    with pytest.raises(InputError, match="notBefore must be a UTC time"):
        built("Instance:SystemMaintenance.Stop:Failed", notBefore="tomorrow")


def test_an_unknown_name_and_a_wrong_resource_or_level_are_refused() -> None:
    with pytest.raises(NotFound, match="did you mean Instance:StateChange"):
        build("Instance:StateChanged", "i-1", region="r", user="1", content={}, now_ms=NOW)
    with pytest.raises(InputError, match="names a disk"):
        built("Instance:StateChange", "acs:ecs:cn-beijing:42:disk/d-9")
    with pytest.raises(InvalidNotification, match=r"^level: "):
        built("Instance:StateChange", level="LOUD")
    with pytest.raises(InvalidNotification, match=r"^resourceId: "):
        built("Instance:StateChange", "i 1")

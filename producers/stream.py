"""Generates a reproducible stream of notifications about a small deployment, with all four resource types of ECS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple
from uuid import UUID

import msgspec

from schemas.catalogue import CATALOGUE
from schemas.times import content_time, event_time

REGION = "cn-hangzhou"
USER = "100000000000"
_INSTANCES, _DISKS, _SNAPSHOTS, _INTERFACES = 400, 600, 200, 150
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_MEAN_GAP_MS = 250

_encode = msgspec.json.Encoder().encode
Content = dict[str, str]


class _Fleet:
    """The resources that the generated events are about."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.instances = self._ids("i-bp1", _INSTANCES)
        self.disks = self._ids("d-bp1", _DISKS)
        self.snapshots = self._ids("s-bp1", _SNAPSHOTS)
        self.interfaces = self._ids("eni-bp1", _INTERFACES)
        self.hosts = self._ids("dh-bp1", 8)

    def _ids(self, prefix: str, count: int) -> list[str]:
        return [prefix + "".join(self.random.choices(_ALPHABET, k=17)) for _ in range(count)]

    def event_id(self) -> str:
        return f"e-bp1{self.random.getrandbits(85):017x}"[:22]


class _Event(NamedTuple):
    name: str
    resource: str
    content: Content
    level: str = ""


def _state_change(fleet: _Fleet, _: int) -> _Event:
    instance = fleet.random.choice(fleet.instances)
    state = fleet.random.choice(("Starting", "Running", "Stopping", "Stopped"))
    content = {"resourceId": instance, "resourceType": "ALIYUN::ECS::Instance", "state": state}
    return _Event("Instance:StateChange", f"instance/{instance}", content)


def _maintenance(fleet: _Fleet, now: int) -> _Event:
    instance = fleet.random.choice(fleet.instances)
    code = fleet.random.choice(("Reboot", "Stop", "Redeploy"))
    status = fleet.random.choice(("Scheduled", "Executing", "Executed", "Avoided"))
    content = {
        "eventId": fleet.event_id(),
        "publishTime": content_time(now - 86_400_000),
        "notBefore": content_time(now + 86_400_000),
        "instanceId": instance,
        "eventType": f"SystemMaintenance.{code}",
        "eventStatus": status,
    }
    if status != "Scheduled":
        content["executeStartTime"] = content_time(now - 60_000)
    if status in {"Executed", "Avoided"}:
        content["executeFinishTime"] = content_time(now)
    return _Event(f"Instance:SystemMaintenance.{code}:{status}", f"instance/{instance}", content)


def _failure(fleet: _Fleet, now: int) -> _Event:
    instance = fleet.random.choice(fleet.instances)
    status = fleet.random.choice(("Executing", "Executed"))
    content = {
        "eventId": fleet.event_id(),
        "publishTime": content_time(now),
        "instanceId": instance,
        "eventType": "SystemFailure.Reboot",
        "eventStatus": status,
        "executeStartTime": content_time(now - 30_000),
    }
    if status == "Executed":
        content["executeFinishTime"] = content_time(now)
    return _Event(f"Instance:SystemFailure.Reboot:{status}", f"instance/{instance}", content)


def _interruption(fleet: _Fleet, _: int) -> _Event:
    instance = fleet.random.choice(fleet.instances)
    content = {"instanceId": instance, "action": "delete"}
    return _Event("Instance:PreemptibleInstanceInterruption", f"instance/{instance}", content)


def _migration(fleet: _Fleet, now: int) -> _Event:
    instance = fleet.random.choice(fleet.instances)
    source, destination = fleet.random.sample(fleet.hosts, 2)
    content = {
        "instanceId": instance,
        "sourceDedicatedHostId": source,
        "destinationDedicatedHostId": destination,
        "startTime": content_time(now - 8_000),
        "endTime": content_time(now),
        "status": "accomplished",
    }
    return _Event("Instance:LiveMigrationAcrossDDH", f"instance/{instance}", content)


def _stalled(fleet: _Fleet, now: int) -> _Event:
    disk, instance = fleet.random.choice(fleet.disks), fleet.random.choice(fleet.instances)
    status = fleet.random.choice(("Executing", "Executed"))
    content = {
        "eventId": fleet.event_id(),
        "diskId": disk,
        "device": "/dev/xvdb",
        "eventType": "Stalled",
        "executeStartTime": content_time(now - 120_000),
        "ecsInstanceId": instance,
        "ecsInstanceName": f"web-{instance[-4:]}",
    }
    if status == "Executed":
        content["executeFinishTime"] = content_time(now)
    return _Event(f"Disk:Stalled:{status}", f"disk/{disk}", content)


def _disk_operation(fleet: _Fleet, _: int) -> _Event:
    disk = fleet.random.choice(fleet.disks)
    failed = fleet.random.random() < 0.1
    content = {
        "diskId": disk,
        "operation": fleet.random.choice(("AttachDisk", "DetachDisk")),
        "result": "failed" if failed else "accomplished",
    }
    return _Event("Disk:DiskOperationCompleted", f"disk/{disk}", content, "WARN" if failed else "")


def _snapshot(fleet: _Fleet, now: int) -> _Event:
    snapshot = fleet.random.choice(fleet.snapshots)
    content = {
        "result": "accomplished",
        "snapshotId": snapshot,
        "snapshotName": f"nightly-{snapshot[-6:]}",
        "snapshotType": fleet.random.choice(("user", "timer")),
        "diskId": fleet.random.choice(fleet.disks),
        "startTime": content_time(now - 62_000),
        "endTime": content_time(now),
    }
    return _Event("Snapshot:CreateSnapshotCompleted", f"snapshot/{snapshot}", content)


def _interface(fleet: _Fleet, _: int) -> _Event:
    interface = fleet.random.choice(fleet.interfaces)
    operation, status = fleet.random.choice(
        (("AttachNetworkInterface", "InUse"), ("DetachNetworkInterface", "Available"))
    )
    content = {
        "eniId": interface,
        "operation": operation,
        "eniStatus": status,
        "result": "success",
        "requestId": str(UUID(int=fleet.random.getrandbits(128))).upper(),
    }
    return _Event("NetworkInterface:NetworkInterfaceOperateCompleted", f"eni/{interface}", content)


_KINDS: dict[Callable[[_Fleet, int], _Event], int] = {
    _state_change: 14,
    _maintenance: 26,
    _failure: 8,
    _interruption: 2,
    _migration: 10,
    _stalled: 14,
    _disk_operation: 6,
    _snapshot: 12,
    _interface: 8,
}
"""Functions that build an event, with their weights in percent."""


def generate(seed: int, count: int, start_ms: int) -> Iterator[bytes]:
    """Yields `count` notifications of about 519 bytes, with times from `start_ms` on. Equal arguments give equal
    bytes."""
    random = Random(seed)  # noqa: S311 - made-up data
    fleet = _Fleet(random)
    kinds, weights = list(_KINDS), list(_KINDS.values())
    now = start_ms
    for _ in range(count):
        now += random.randrange(2 * _MEAN_GAP_MS)
        event = random.choices(kinds, weights)[0](fleet, now)
        yield _encode(
            {
                "ver": "1.0",
                "id": str(UUID(int=random.getrandbits(128))).upper(),
                "product": "ECS",
                "resourceId": f"acs:ecs:{REGION}:{USER}:{event.resource}",
                "level": event.level or CATALOGUE[event.name].level,
                "name": event.name,
                "userId": USER,
                "eventTime": event_time(now),
                "regionId": REGION,
                "content": event.content,
            }
        )

"""Models of `content`, one for each family of events; they build a content, and check one without re-serialising it.

Sources: the notification formats in the ECS user manual (instance, EBS, snapshot and ENI event notifications). A model
describes a complete content. The check is more lenient, because captured payloads vary: it accepts missing fields,
unknown fields, and unknown values of a closed set; a documented field that is present must have its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from schemas.times import CONTENT_TIME, is_content_time

TIME_EXPECTED = "a UTC time, as in 2019-04-09T04:18:26Z"


def _time(text: str) -> str:
    if not is_content_time(text):
        raise ValueError(f"expected {TIME_EXPECTED}")
    return text


Text = Annotated[str, StringConstraints(min_length=1)]
Time = Annotated[
    str, AfterValidator(_time), WithJsonSchema({"type": "string", "pattern": f"^(?:{CONTENT_TIME})$"})
]
MaybeText = Text | SkipJsonSchema[None]
MaybeTime = Time | SkipJsonSchema[None]

TIMES = frozenset(
    {
        "publishTime",
        "notBefore",
        "executeStartTime",
        "executeFinishTime",
        "startTime",
        "endTime",
        "intervalStart",
        "intervalEnd",
    }
)
"""JSON names of the fields that hold a time, in any family. All other documented fields hold text."""


class Content(BaseModel):
    """Base of the models. Field names are camel case in JSON; unknown fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, alias_generator=to_camel)

    resource_field: ClassVar[str] = "instanceId"
    """JSON name of the field that holds the id of the event's resource."""


class SystemEvent(Content):
    """Content of an O&M or billing event of an instance. Each change of the event's status is a notification."""

    event_id: Text
    publish_time: Time
    not_before: MaybeTime = None
    instance_id: Text
    event_type: Text
    event_status: Literal["Inquiring", "Scheduled", "Executing", "Executed", "Avoided", "Failed", "Canceled"]
    execute_start_time: MaybeTime = None
    execute_finish_time: MaybeTime = None


class StateChange(Content):
    """Content of the event that an instance entered a state. Later documents write `Created` for `Pending`."""

    resource_field: ClassVar[str] = "resourceId"

    resource_id: Text
    resource_type: Literal["ALIYUN::ECS::Instance"]
    state: Literal["Created", "Pending", "Starting", "Running", "Stopping", "Stopped", "Deleted"]


class PreemptibleInterruption(Content):
    """Content of the event that a preemptible instance will be released in five minutes."""

    instance_id: Text
    action: Literal["delete"]


class LiveMigration(Content):
    """Content of the event that an instance moves between dedicated hosts. `end_time` is present once the move has
    ended."""

    instance_id: Text
    source_dedicated_host_id: Text
    destination_dedicated_host_id: Text
    start_time: Time
    end_time: MaybeTime = None
    status: Literal["started", "failed", "accomplished"]


class BurstableRestricted(Content):
    """Content of the event that a burstable instance was limited to its baseline in an interval of up to an hour."""

    instance_id: Text
    interval_start: Time
    interval_end: Time


class PerformanceMode(Content):
    """Content of the event that a burstable instance changed its performance mode."""

    instance_id: Text
    credit_specification: Literal["Standard", "Unlimited"]
    operator: Literal["User", "System"]


class DiskOperation(Content):
    """Content of the event that a disk was attached or detached, or that the operation failed."""

    resource_field: ClassVar[str] = "diskId"

    disk_id: Text
    operation: Literal["AttachDisk", "DetachDisk"]
    result: Literal["accomplished", "failed"]


class Conversion(Content):
    """Content of the event that a disk was converted to pay-as-you-go, or that the conversion failed."""

    resource_field: ClassVar[str] = "diskId"

    disk_id: Text
    result: Literal["accomplished", "failed"]


class DiskRelease(Content):
    """Content of the event that a disk was released because of an overdue payment."""

    resource_field: ClassVar[str] = "diskId"

    instance_id: Text
    disk_id: Text


class Stalled(Content):
    """Content of the event that a disk is slow, or that a local disk is damaged.

    `execute_finish_time` is present once the event has ended. Degraded, SeverelyDegraded and Stalled are documented;
    ErrorDetected is assumed to have the same form.
    """

    resource_field: ClassVar[str] = "diskId"

    event_id: Text
    disk_id: Text
    device: Text
    event_type: Literal["Degraded", "SeverelyDegraded", "Stalled", "ErrorDetected"]
    execute_start_time: Time
    execute_finish_time: MaybeTime = None
    ecs_instance_id: Text
    ecs_instance_name: Text


class Snapshot(Content):
    """Content of the event that a snapshot was created, or that its creation failed."""

    resource_field: ClassVar[str] = "snapshotId"

    result: Literal["accomplished", "failed"]
    snapshot_id: Text
    snapshot_name: Text
    snapshot_type: Literal["user", "timer", "copied", "imported"]
    disk_id: Text
    start_time: Time
    end_time: Time


class NetworkInterface(Content):
    """Content of the event that an operation on a secondary network interface ended."""

    resource_field: ClassVar[str] = "eniId"

    eni_id: Text
    operation: Literal[
        "CreateNetworkInterface", "AttachNetworkInterface", "DetachNetworkInterface", "DeleteNetworkInterface"
    ]
    eni_status: Literal["Available", "InUse", "Detaching", "Deleting", "Deleted", "CreateFailed"]
    result: Literal["success", "failed"]
    request_id: Text


class Undocumented(Content):
    """Content of an event of an instance for which no source describes the content."""

    instance_id: MaybeText = None


FAMILIES: Mapping[str, type[Content]] = MappingProxyType(
    {
        "system-event": SystemEvent,
        "state-change": StateChange,
        "preemptible-interruption": PreemptibleInterruption,
        "live-migration": LiveMigration,
        "burstable-restricted": BurstableRestricted,
        "performance-mode": PerformanceMode,
        "disk-operation": DiskOperation,
        "conversion": Conversion,
        "disk-release": DiskRelease,
        "stalled": Stalled,
        "snapshot": Snapshot,
        "network-interface": NetworkInterface,
        "undocumented": Undocumented,
    }
)


def fields_of(family: str) -> Mapping[str, bool]:
    """Returns the documented fields of a family by their JSON names, with True for a required field."""
    return {to_camel(name): field.is_required() for name, field in FAMILIES[family].model_fields.items()}


def field_problems(family: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields each documented field that has a wrong value, with a description of the expected value."""
    for field in fields_of(family):
        if field not in content:
            continue
        value = content[field]
        if not isinstance(value, str):
            yield field, TIME_EXPECTED if field in TIMES else "text"
        elif field in TIMES and not is_content_time(value):
            yield field, TIME_EXPECTED


def _checker(family: str) -> Callable[[msgspec.Raw | bytes], object]:
    time = Annotated[str, msgspec.Meta(pattern=rf"^(?:{CONTENT_TIME})\Z")]
    fields = [
        (field, (time if field in TIMES else str) | msgspec.UnsetType, msgspec.UNSET)
        for field in fields_of(family)
    ]
    return msgspec.json.Decoder(msgspec.defstruct(FAMILIES[family].__name__, fields, gc=False)).decode


CHECKS: Mapping[str, Callable[[msgspec.Raw | bytes], object]] = MappingProxyType(
    {family: _checker(family) for family in FAMILIES}
)
"""Fast forms of `field_problems`, by family. Each takes the bytes of a JSON object, and raises msgspec.MsgspecError
if a field has a wrong value."""

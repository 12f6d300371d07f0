"""Resource names of notifications: `acs:ecs:<region>:<user>:<type>/<id>` (Alibaba Cloud Resource Name).

The check is strict on the shape and lenient on characters: published notifications are masked (`********`,
`<resource-id>`), and the region of the name may differ from the notification's regionId.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.errors import InvalidNotification

MAX_LENGTH = 512
PATTERN = r"acs:[^:/\s]+:[^:/\s]+:[^:/\s]+:[^:/\s]+/[^:\s]+"
"""Pattern of a resource name without anchors, in the syntax that Python and JSON Schema share."""

RESOURCE_TYPES = {"Instance": "instance", "Disk": "disk", "Snapshot": "snapshot", "NetworkInterface": "eni"}
"""The four resource types of ECS: maps the word of event names to the word of resource names."""

_SHAPE = re.compile(PATTERN)


class Arn(NamedTuple):
    """The parts of a resource name. `service` is `ecs` for the four resource types of ECS."""

    service: str
    region: str
    user: str
    type: str
    id: str

    def __str__(self) -> str:
        return f"acs:{self.service}:{self.region}:{self.user}:{self.type}/{self.id}"


def parse(text: str) -> Arn:
    """Splits a resource name into its parts. Raises InvalidNotification, with the field `resourceId`, for any other
    text."""
    if len(text) > MAX_LENGTH or not _SHAPE.fullmatch(text):
        raise InvalidNotification(
            "resourceId",
            f"{text[:80]!r} is not a resource name; write acs:ecs:<region>:<user>:<type>/<id>",
        )
    _, service, region, user, resource = text.split(":")
    kind, _, identity = resource.partition("/")
    return Arn(service=service, region=region, user=user, type=kind, id=identity)


def build(resource_type: str, identity: str, *, region: str, user: str) -> str:
    """Builds the name of an ECS resource. `resource_type` is the word of event names (`NetworkInterface`) or of
    resource names (`eni`). Raises InvalidNotification if the result is not a valid resource name."""
    return str(
        parse(f"acs:ecs:{region}:{user}:{RESOURCE_TYPES.get(resource_type, resource_type)}/{identity}")
    )

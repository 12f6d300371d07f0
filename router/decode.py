"""What the router reads of an event."""

from __future__ import annotations

from schemas.notification import Routing, check, read_routing
from schemas.record import CHECKED, Record
from schemas.topics import EVENT_LIMIT

_CHECKED = (CHECKED, b"1")


def decode(record: Record) -> Routing:
    """The fields that routing needs; InvalidNotification for what is not a notification.

    What the edge has checked is only read. Anything else, and what is too large to be ours, is checked here.
    """
    if _CHECKED in record.headers and len(record.value) <= EVENT_LIMIT:
        return read_routing(record.value)
    return check(record.value)

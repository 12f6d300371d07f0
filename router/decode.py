"""The fields that the router reads of an event."""

from __future__ import annotations

from schemas.notification import Routing, check, read_routing
from schemas.record import CHECKED, Record
from schemas.topics import EVENT_LIMIT

_CHECKED = (CHECKED, b"1")


def decode(record: Record) -> Routing:
    """Returns the fields that routing needs; raises InvalidNotification if the record is no notification.

    A record with the mark of the edge was checked there, and is only decoded. A record without it, or a larger one than
    the edge accepts, is checked here.
    """
    if _CHECKED in record.headers and len(record.value) <= EVENT_LIMIT:
        return read_routing(record.value)
    return check(record.value)

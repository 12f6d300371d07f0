"""Encodes deliveries as CloudEvents 1.0 (CNCF; HTTP protocol binding and JSON event format, both 1.0.2).

`source`, `type` and `subject` follow EventBridge's form of system events. `id` is the delivery's id: distinct events
never share one, and a repeat has the same. `data` is the event, byte for byte.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from schemas.delivery import Delivery
from schemas.times import is_event_time

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})
"""Characters that a header's value holds unescaped; all others are percent-encoded (HTTP binding, 3.1.3.2)."""


class _Event(msgspec.Struct):
    product: str
    name: str
    eventTime: str = ""  # noqa: N815 - the field's name in the event


_decoder = msgspec.json.Decoder(_Event)


def encode_binary(delivery: Delivery) -> dict[str, str]:
    """Returns the attributes as headers; the event is the body beside them. Raises ValueError if the event is not a
    notification."""
    return {f"ce-{name}": quote(text, safe=_PRINTABLE) for name, text in _attributes(delivery).items()}


def encode_structured(delivery: Delivery) -> bytes:
    """Returns attributes and event as one JSON object. Raises ValueError if the event is not a notification."""
    delivery.event.decode()
    attributes = _attributes(delivery) | {"datacontenttype": "application/json"}
    return b'%b,"data":%b}' % (msgspec.json.encode(attributes)[:-1], delivery.event)


def _attributes(delivery: Delivery) -> dict[str, str]:
    try:
        event = _decoder.decode(delivery.event)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    product = quote(event.product.lower(), safe="")
    attributes = {
        "specversion": "1.0",
        "id": delivery.id,
        "source": f"acs.{product}",
        "type": f"{product}:{event.name}",
        "time": _time(event.eventTime, delivery.event_time),
    }
    if delivery.resource:
        attributes["subject"] = delivery.resource
    return attributes


def _time(written: str, appended: int) -> str:
    """Returns the time of the event in the form of RFC 3339, or the time of its record if the event has no valid one."""
    if not is_event_time(written):
        return datetime.fromtimestamp(appended / 1000, UTC).isoformat(timespec="milliseconds")
    date = f"{written[:4]}-{written[4:6]}-{written[6:8]}"
    return f"{date}T{written[9:11]}:{written[11:13]}:{written[13:22]}:{written[22:]}"

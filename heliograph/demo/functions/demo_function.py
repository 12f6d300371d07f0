"""The function of the demo's target of kind `python`: `handler(event, context)`, the signature of Function Compute."""

import json
from typing import Any


def handler(event: bytes, context: Any) -> str:  # noqa: ANN401 - depends on the caller
    """Returns a short description of the event; the verdict keeps it as the receipt."""
    notification = json.loads(event)
    return f"{context.request_id[:8]} saw {notification['name']} of {notification['resourceId'].rpartition('/')[2]}"

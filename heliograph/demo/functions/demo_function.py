"""The function that the demo's target of kind `python` calls: `handler(event, context)`, as Function Compute has it."""

import json
from typing import Any


def handler(event: bytes, context: Any) -> str:  # noqa: ANN401 - whatever the caller lends
    """Answer with what was noticed; the answer is kept in the verdict."""
    notification = json.loads(event)
    return f"{context.request_id[:8]} saw {notification['name']} of {notification['resourceId'].rpartition('/')[2]}"

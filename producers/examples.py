"""Example notifications of every family in the published formats, for the demonstration and for tests.

Like real ones, they vary: some are pretty-printed, have a further top-level field, have a name that contradicts the
content's status, or have a content that is JSON text.
"""

from __future__ import annotations

from importlib.resources import files

from producers.reading import read_notifications

with (files("producers") / "examples.json").open("rb") as _file:
    EXAMPLES: tuple[bytes, ...] = tuple(read_notifications(_file))
"""The exact bytes of each example."""

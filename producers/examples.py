"""Example notifications of every family, for the demonstration and for tests: made up, in the published formats.

They are written as differently as real ones are: pretty-printed or not, with a further top-level field, with a name that
contradicts the content's status, with a content that is JSON text.
"""

from __future__ import annotations

from importlib.resources import files

from producers.reading import notifications

with (files("producers") / "examples.json").open("rb") as _file:
    EXAMPLES: tuple[bytes, ...] = tuple(notifications(_file))
"""Each one's exact bytes."""

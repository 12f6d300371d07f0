"""Python's collector of garbage in cycles, set for loops that make many records and no cycles."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Look for cycles once in 50,000 new objects instead of 700, and never among what is there now. With Python's own
    setting the router spends two fifths of its time on looking, and finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

"""Tunes the garbage collector for loops that create many records and no cycles."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Makes the garbage collector run after 50,000 new objects instead of 700, and leave out the objects that exist
    now.

    With Python's default, the router spends two fifths of its time on collections that find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

"""Text from receivers and other programs as one printable line, for outcomes and log lines."""

from __future__ import annotations

DETAIL_LIMIT = 200
"""Characters that are kept of a receiver's text."""


def one_line(body: bytes) -> str:
    """Returns the text as one printable line of at most DETAIL_LIMIT characters."""
    text = " ".join(body.decode(errors="replace").split())[:DETAIL_LIMIT]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "�" for char in text)

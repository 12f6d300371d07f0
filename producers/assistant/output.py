"""What a command printed, as its record keeps it: text, without secrets, of bounded size."""

from __future__ import annotations

import re
import threading
from codecs import getincrementaldecoder
from collections.abc import Iterable
from typing import NamedTuple

OUTPUT_LIMIT = 24 * 1024
"""Bytes of UTF-8 that a record keeps of the output."""
MASK = "***"


class OutputTail(NamedTuple):
    """The end of what was printed, and how many bytes of UTF-8 before it were cut."""

    text: str
    dropped: int


NOTHING = OutputTail("", 0)


class Output:
    """Takes bytes as they come and keeps the end of the text: the last characters that fit into `OUTPUT_LIMIT` bytes.

    Bytes that are no UTF-8 become U+FFFD. A secret is masked wherever it stands, also when it comes in pieces.
    One thread adds; any may ask what was kept so far.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, self._secrets)) or r"(?!)")
        self._held = ""
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._size = 0

    def add(self, piece: bytes, *, last: bool = False) -> None:
        """Take what was printed next. With `last` nothing follows."""
        text = self._held + self._decode(piece, last)
        masked: list[str] = []
        start = 0
        for secret in self._secret.finditer(text):
            if not last and self._open(text, start) <= secret.start():
                break
            masked += (text[start : secret.start()], MASK)
            start = secret.end()
        end = len(text) if last else self._open(text, start)
        self._held = text[end:]
        self._keep("".join((*masked, text[start:end])).encode())

    def tail(self) -> OutputTail:
        """The end of what was printed so far."""
        with self._lock:
            kept, size = bytes(self._kept[-OUTPUT_LIMIT:]), self._size
        if size > len(kept):
            start = next((at for at, byte in enumerate(kept) if byte & 0xC0 != 0x80), len(kept))
            kept = kept[start:]
        return OutputTail(kept.decode(), size - len(kept))

    def _keep(self, piece: bytes) -> None:
        with self._lock:
            self._size += len(piece)
            self._kept += piece
            if len(self._kept) > 4 * OUTPUT_LIMIT:
                del self._kept[:-OUTPUT_LIMIT]

    def _open(self, text: str, start: int) -> int:
        """Where, from `start` on, the end of `text` may be the beginning of a secret that goes on."""
        longest = max(map(len, self._secrets), default=1)
        for at in range(max(start, len(text) - longest + 1), len(text)):
            end = text[at:]
            if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                return at
        return len(text)

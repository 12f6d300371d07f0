"""Output of a command as its record keeps it: text of bounded size, with secrets masked."""

from __future__ import annotations

import re
import threading
from codecs import getincrementaldecoder
from collections.abc import Iterable
from typing import NamedTuple

OUTPUT_LIMIT = 24 * 1024
"""Limit of the output in a record, in bytes of UTF-8."""
MASK = "***"


class OutputTail(NamedTuple):
    """The end of the output. `dropped`: bytes of UTF-8 that were cut before it."""

    text: str
    dropped: int


NOTHING = OutputTail("", 0)


class Output:
    """Collects output and keeps its end: the last characters that fit into `OUTPUT_LIMIT` bytes.

    Bytes that are not UTF-8 become U+FFFD. Every secret is masked, even if it arrives in pieces. One thread may call
    `add`, any thread may call `tail`.
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
        """Adds the next piece of output. `last`: no more output follows."""
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
        """Returns the end of the output so far."""
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
        """Returns the first index, from `start` on, at which the rest of `text` may be the beginning of a secret."""
        longest = max(map(len, self._secrets), default=1)
        for at in range(max(start, len(text) - longest + 1), len(text)):
            end = text[at:]
            if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                return at
        return len(text)

"""Splits a stream of bytes into items: JSON lines, one object, consecutive objects, or arrays of objects.

An item has the exact bytes of its object, from `{` to `}`. Invalid JSON becomes an item too, so that the edge can
reject and keep it. The next item begins at the next line, or after a broken object of several lines if the end of the
object can be found. A stream of any length needs a few MiB of memory.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

ITEM_LIMIT = 1024 * 1024
"""Limit of an item in bytes, more than the limit of events. Of a longer item, only the bytes up to the limit are
kept."""

_CHUNK = 1024 * 1024
_SHORT_LINE = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder(msgspec.Raw).decode
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte ([0-9]+)\)", re.DOTALL)
_TRAILING = "trailing characters"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BLANK = re.compile(rb"[ \t\r\n]*")
_BLANK_OR_COMMA = re.compile(rb"[ \t\r\n,]*")
_ARRAY_OF_OBJECTS = re.compile(rb"\[[ \t\r\n]*[{\]]")
_MAYBE_ARRAY = re.compile(rb"\[[ \t\r\n]*\Z")
_WORD_END = re.compile(rb"[,\]\n]")
_LINE_END = re.compile(rb"\n")
_STRUCTURE = re.compile(rb"\\(?:.|\Z)|[\"{}\[\]\n]", re.DOTALL)


class Readable(Protocol):
    """A stream of bytes: a file, a pipe."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; at the end of the stream, no bytes."""
        ...


class _Shape(enum.Enum):
    """The reason why a JSON value has no end: the bytes stop too early, or are invalid."""

    INCOMPLETE = enum.auto()
    BROKEN = enum.auto()


class _Window:
    """The part of the stream in memory. `at`: index of the next byte in the buffer."""

    def __init__(self, stream: Readable) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self.buffer = b""
        self.at = 0
        self.ended = False
        self._newline = -1

    def fill(self) -> bool:
        """Reads the next bytes of the stream into the buffer; returns False at its end."""
        chunk = b"" if self.ended else self._read(_CHUNK)
        if not chunk:
            self.ended = True
            return False
        self.buffer = self.buffer[self.at :] + chunk
        self.at = 0
        self._newline = -1
        return True

    def line_end(self) -> int:
        """Returns the end of the line at `at`: the index of its newline, or the end of the buffer."""
        if self._newline < self.at:
            found = self.buffer.find(b"\n", self.at)
            self._newline = len(self.buffer) if found < 0 else found
        return self._newline

    def skip(self, blank: re.Pattern[bytes]) -> bool:
        """Moves to the next byte that does not match `blank`; returns False if there is none."""
        while True:
            found = blank.match(self.buffer, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.buffer):
                return True
            if not self.fill():
                return False


def read_notifications(stream: Readable) -> Iterator[bytes]:
    """Yields the items of `stream` in order. It does not check that an item is a notification; the edge does."""
    window = _Window(stream)
    while len(window.buffer) < len(_BOM) and window.fill():
        pass
    window.at = len(_BOM) if window.buffer.startswith(_BOM) else 0
    while window.skip(_BLANK):
        if _enters_array(window):
            yield from _elements(window)
        else:
            yield _next_item(window)


def _enters_array(window: _Window) -> bool:
    while _MAYBE_ARRAY.match(window.buffer, window.at) and len(window.buffer) - window.at < ITEM_LIMIT:
        if not window.fill():
            break
    return _ARRAY_OF_OBJECTS.match(window.buffer, window.at) is not None


def _elements(window: _Window) -> Iterator[bytes]:
    window.at += 1
    while window.skip(_BLANK_OR_COMMA):
        if window.buffer.startswith(b"]", window.at):
            window.at += 1
            return
        yield _value(window, drop_line=False)


def _next_item(window: _Window) -> bytes:
    """Returns the next item outside of arrays. Most items are lines with one object, which this finds fast."""
    start, end = window.at, window.line_end()
    if end - start > _SHORT_LINE:
        return _value(window, drop_line=True)
    line = window.buffer[start:end]
    try:
        _decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _value(window, drop_line=True)
    if end == len(window.buffer) and not line.endswith(b"}"):
        return _value(window, drop_line=True)
    window.at = end
    return line.rstrip()


def _value(window: _Window, *, drop_line: bool) -> bytes:
    """Returns the next JSON value, which may have several lines, or the next invalid bytes. These end at the end of the
    line if `drop_line` is True, else at a comma or bracket."""
    broken_line = drop_line and _measure(_line(window)) is _Shape.BROKEN
    while not broken_line:
        view = memoryview(window.buffer)[window.at : window.at + ITEM_LIMIT]
        size = _measure(view)
        unsure = size is _Shape.INCOMPLETE or (size == len(view) and view[-1] not in b'}]"')
        if unsure and len(view) < ITEM_LIMIT and window.fill():
            continue
        if isinstance(size, int):
            item = bytes(view[:size]).rstrip()
            window.at += size
            return item
        break
    if window.buffer[window.at] in b"{[" and not broken_line:
        return _broken(window, _Braces().end)
    return _broken(window, _first(_LINE_END if drop_line else _WORD_END))


def _line(window: _Window) -> memoryview:
    return memoryview(window.buffer)[window.at : min(window.line_end(), window.at + ITEM_LIMIT)]


def _measure(view: memoryview | bytes) -> int | _Shape:
    """Returns the size in bytes of the JSON value at the start of `view`, with the blanks after it."""
    try:
        _decode(view)
    except RecursionError:
        return _Shape.BROKEN
    except msgspec.DecodeError as error:
        if malformed := _MALFORMED.fullmatch(str(error)):
            before = int(malformed[2]) - 1
            if malformed[1] == _TRAILING:
                return before
            return (
                _Shape.BROKEN if before < len(view) - 1 else _Shape.INCOMPLETE
            )  # a number may be cut at its end
        # msgspec reports a lone surrogate as an early end, too: replace surrogates by other escapes and measure again.
        plain, found = _SURROGATE.subn(b"\\\\u00", view)
        return _measure(plain) if found else _Shape.INCOMPLETE
    return len(view)


def _broken(window: _Window, end_in: Callable[[bytes, int], int]) -> bytes:
    """Skips invalid bytes; returns up to `ITEM_LIMIT` of them. `end_in(buffer, start)` returns their end in the
    buffer, or -1 if they continue after it."""
    kept = bytearray()
    while True:
        start = window.at
        end = end_in(window.buffer, start)
        window.at = len(window.buffer) if end < 0 else end
        kept += window.buffer[start : min(window.at, start + ITEM_LIMIT - len(kept))]
        if end >= 0 or not window.fill():
            return bytes(kept).rstrip(b" \t\r\n")


def _first(pattern: re.Pattern[bytes]) -> Callable[[bytes, int], int]:
    def end(buffer: bytes, start: int) -> int:
        found = pattern.search(buffer, start)
        return found.start() if found else -1

    return end


class _Braces:
    """Finds the end of a broken or oversized object by its braces: the closing brace, or a line end inside a string, or
    a line end before a line that begins with a brace, as the next object of a file of JSON lines does."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escape = False

    def end(self, buffer: bytes, start: int) -> int:
        start, self._escape = start + self._escape, False
        for token in _STRUCTURE.finditer(buffer, start):
            match token[0]:
                case b"\\":
                    self._escape = True
                case b'"':
                    self._in_string = not self._in_string
                case b"\n" if self._in_string or buffer.startswith(b"{", token.end()):
                    return token.start()
                case b"{" | b"[" if not self._in_string:
                    self._depth += 1
                case b"}" | b"]" if not self._in_string:
                    self._depth -= 1
                    if self._depth == 0:
                        return token.end()
                case _:
                    pass
        return -1

"""Notifications out of a stream of bytes: JSON lines, one object, objects in a row, or arrays of objects.

Each item keeps the exact bytes of its object, from `{` to `}`. What is not JSON becomes one item too, so that it can be
refused and kept, and reading resumes behind it: at the next line, or behind a broken object of several lines where
its end can be told. Memory is constant: no more than a few MiB, whatever the stream holds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

ITEM_LIMIT = 1024 * 1024
"""Bytes of the longest item. A longer one is cut to them, which is more than any event may have, and skipped."""

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
        """Up to `size` bytes; none at the end."""
        ...


class _Shape(enum.Enum):
    """What a window shows instead of the end of a JSON value."""

    INCOMPLETE = enum.auto()
    BROKEN = enum.auto()


class _Window:
    """The part of the stream that is in memory; what comes next begins at `at`."""

    def __init__(self, stream: Readable) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self.buffer = b""
        self.at = 0
        self.ended = False
        self._newline = -1

    def fill(self) -> bool:
        """Add what the stream has next; False at its end."""
        chunk = b"" if self.ended else self._read(_CHUNK)
        if not chunk:
            self.ended = True
            return False
        self.buffer = self.buffer[self.at :] + chunk
        self.at = 0
        self._newline = -1
        return True

    def line_end(self) -> int:
        """Where the line at `at` ends in the buffer: at its newline, or at the buffer's end."""
        if self._newline < self.at:
            found = self.buffer.find(b"\n", self.at)
            self._newline = len(self.buffer) if found < 0 else found
        return self._newline

    def skip(self, blank: re.Pattern[bytes]) -> bool:
        """Move to the next byte that is not blank; False if there is none."""
        while True:
            found = blank.match(self.buffer, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.buffer):
                return True
            if not self.fill():
                return False


def notifications(stream: Readable) -> Iterator[bytes]:
    """The items of `stream`, in order. Items that are not notifications are among them: the edge says why."""
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
        yield _value(window, whole_line_is_broken=False)


def _next_item(window: _Window) -> bytes:
    """The item at `at` outside of arrays: most often a line that is one object."""
    start, end = window.at, window.line_end()
    if end - start > _SHORT_LINE:
        return _value(window, whole_line_is_broken=True)
    line = window.buffer[start:end]
    try:
        _decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _value(window, whole_line_is_broken=True)
    if end == len(window.buffer) and not line.endswith(b"}"):
        return _value(window, whole_line_is_broken=True)
    window.at = end
    return line.rstrip()


def _value(window: _Window, *, whole_line_is_broken: bool) -> bytes:
    """The JSON value at `at`, however many lines it has; or what is broken there."""
    broken_line = whole_line_is_broken and _measure(_line(window)) is _Shape.BROKEN
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
    return _broken(window, _first(_LINE_END if whole_line_is_broken else _WORD_END))


def _line(window: _Window) -> memoryview:
    return memoryview(window.buffer)[window.at : min(window.line_end(), window.at + ITEM_LIMIT)]


def _measure(view: memoryview | bytes) -> int | _Shape:
    """How many bytes the JSON value at the start of `view` has, with the blanks behind it."""
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
        # A lone surrogate is reported as an early end as well: measure with others in their place.
        plain, found = _SURROGATE.subn(b"\\\\u00", view)
        return _measure(plain) if found else _Shape.INCOMPLETE
    return len(view)


def _broken(window: _Window, end_in: Callable[[bytes, int], int]) -> bytes:
    """Move behind what is broken at `at`; its first bytes are the item. `end_in(buffer, from)` finds the end, or -1."""
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
    """Finds the end of a broken or over-long object by its braces: where they close, or where a line ends inside a
    string, or where the next line begins with a brace, as the next object of a file of JSON lines does."""

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

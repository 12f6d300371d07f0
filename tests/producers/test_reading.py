"""Splitting streams of bytes into notifications."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.examples import EXAMPLES
from producers.reading import ITEM_LIMIT, read_notifications

OBJECTS = st.dictionaries(
    st.text(max_size=6),
    st.recursive(st.none() | st.integers() | st.text(max_size=6), st.lists, max_leaves=3),
    max_size=3,
)
BLANKS = st.text(" \t\r\n", max_size=3).map(str.encode)


class Dripping:
    """A stream that returns a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._step))


def items(data: bytes, step: int = 1 << 20) -> list[bytes]:
    return list(read_notifications(Dripping(data, step)))


@st.composite
def _written(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Draws objects, and a stream of them in one of the layouts: consecutive, in lines or in an array."""
    texts = [
        json.dumps(
            each, indent=draw(st.sampled_from([None, 0, 2])), ensure_ascii=draw(st.booleans())
        ).encode()
        for each in draw(st.lists(OBJECTS, max_size=5))
    ]
    match draw(st.sampled_from(["row", "lines", "array"])):
        case "lines":
            stream = b"".join(text + draw(BLANKS) + b"\n" for text in texts)
        case "array":
            between = draw(BLANKS) + b"," + draw(BLANKS)
            stream = (
                draw(BLANKS) + b"[" + draw(BLANKS) + between.join(texts) + draw(BLANKS) + b"]" + draw(BLANKS)
            )
        case _:
            stream = b"".join(draw(BLANKS) + text for text in texts)
    return texts, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + stream


@given(_written(), st.integers(1, 40))
def test_every_layout_yields_the_exact_bytes_of_each_object(
    written: tuple[list[bytes], bytes], step: int
) -> None:
    texts, stream = written
    assert items(stream, step) == texts


OPEN = [b'{"a": 1, "b"', b'{"a":', b'{"a":[', b'{"a":"\xff', b'{"\\ud800":', b"hello {x", b"[ERROR] x", b'"']
CLOSED = [b"}", b"]", b",", b"\0\0", b"nul", b'{"a":"\\q"}', b"- 1", b"hello {x", b"[ERROR] x"]
BAD_LINES = st.lists(st.sampled_from(OPEN), max_size=6) | st.lists(st.sampled_from(CLOSED), max_size=6)
"""Lines with unbalanced braces; several of them together could be one object of several lines."""


@given(BAD_LINES, st.integers(1, 60))
def test_reading_resumes_at_the_line_after_a_bad_one(bad: list[bytes], step: int) -> None:
    good = b'{"good":[{"x":1}]}'
    stream = b"".join(good + b"\n" + line + b"\n" for line in bad) + good
    found = items(stream, step)
    assert found == [each for line in bad for each in (good, line)] + [good]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_reading_any_bytes_drops_only_blanks(data: bytes, step: int) -> None:
    kept = b"".join(items(data, step))
    blanks = b" \t\r\n,[]"
    assert bytes(set(data) - set(kept)).strip(blanks + b"\xef\xbb\xbf") == b""


@given(st.binary(max_size=300), st.integers(1, 50))
def test_items_of_whole_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, step: int) -> None:
    lines = b"\n".join(EXAMPLES[1].replace(b"\n", b"") for _ in range(3))
    assert items(lines + b"\n", step) == lines.split(b"\n")
    assert items(lines + b"\n" + data.replace(b"\n", b""), step)[:3] == lines.split(b"\n")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"\n \r\n", []),
        (b"[]", []),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}{"b":2} {"c":3}', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
        (b'[{"a":1}]\n[{"b":2},{"c":3}]\n', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
        (
            b'[{"a":1}, hello, {"b":"\\q"}, 5, {"c":3}]',
            [b'{"a":1}', b"hello", b'{"b":"\\q"}', b"5", b'{"c":3}'],
        ),
        (b'[{"a":1}', [b'{"a":1}']),
        (b"[1,2]\n", [b"[1,2]"]),
        (b'12\n"x"\n', [b"12", b'"x"']),
        (b'{"a":1}\0\0', [b'{"a":1}', b"\0\0"]),
        (b'{"a":"\\ud800"}\n{"b":2}', [b'{"a":"\\ud800"}', b'{"b":2}']),
        (b'{\n  "a": 1,\n}\n{"b":2}', [b'{\n  "a": 1,\n}', b'{"b":2}']),
        (b'{\n  "a": 1,\n  "b', [b'{\n  "a": 1,\n  "b']),
        (b'{"a":\n{"b":1}', [b'{"a":', b'{"b":1}']),
        (b"[" * 100_000 + b"\n{}", [b"[" * 100_000, b"{}"]),
        (b'{"a":1} and more\n{"b":2}', [b'{"a":1}', b"and more", b'{"b":2}']),
    ],
)
def test_each_shape_of_input_yields_its_items(stream: bytes, expected: list[bytes]) -> None:
    assert items(stream) == expected


@pytest.mark.parametrize(
    "large",
    [
        b'{"a":"' + b"x" * 3 * ITEM_LIMIT + b'"}',
        b'{"a":[\n' + b'  "\\"{",\n' * (ITEM_LIMIT // 4) + b'  ""]}',
        b"\0" * 3 * ITEM_LIMIT,
    ],
)
@pytest.mark.parametrize("around", [(b"", b"\n{}"), (b"{}\n", b"\n{}\n")])
def test_an_oversized_object_is_one_item_cut_to_the_limit(large: bytes, around: tuple[bytes, bytes]) -> None:
    before, after = around
    found = items(before + large + after)
    assert found == [b"{}"] * bool(before) + [large[:ITEM_LIMIT], b"{}"]


def test_an_oversized_object_in_an_array_is_one_item_cut_to_the_limit() -> None:
    large = b'{"a":"' + b"x" * 2 * ITEM_LIMIT + b'"}'
    assert items(b'[{"a":1},' + large + b',{"b":2}]') == [b'{"a":1}', large[:ITEM_LIMIT], b'{"b":2}']


class Endless:
    """A stream of 24 MiB that generates its bytes as they are read."""

    def __init__(self, line: bytes) -> None:
        self._line, self._left = line * (1024 * 1024 // len(line)), 24

    def read(self, size: int, /) -> bytes:
        assert size > 0
        self._left -= 1
        return self._line if self._left >= 0 else b""


@pytest.mark.parametrize("line", [b'{"a":' + b"1" * 500 + b"}\n", b"x", b'{"a":"' + b"1" * 500 + b'",\n'])
def test_memory_does_not_grow_with_the_stream(line: bytes) -> None:
    tracemalloc.start()
    for _ in read_notifications(Endless(line)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 1024 * 1024


def test_a_file_of_examples_yields_the_exact_bytes_of_each() -> None:
    document: Any = json.loads(b"[" + b",".join(EXAMPLES) + b"]")
    assert items(b"\n".join(EXAMPLES)) == list(EXAMPLES)
    assert [json.loads(each) for each in EXAMPLES] == document

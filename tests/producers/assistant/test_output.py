"""Output of commands: cutting and masking."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.output import OUTPUT_LIMIT, Output


def printed(*pieces: bytes, secrets: tuple[str, ...] = ()) -> tuple[str, int]:
    output = Output(secrets)
    for piece in pieces:
        output.add(piece)
    output.add(b"", last=True)
    return output.tail()


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_end_of_the_output_is_kept_and_dropped_bytes_are_counted(more: int) -> None:
    text = "x" * (OUTPUT_LIMIT + more - 1) + "\n"
    kept, dropped = printed(text.encode())
    assert dropped == max(more, 0)
    assert kept == text[dropped:]


@pytest.mark.parametrize("letter", ["é", "語", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_split_at_the_cut(letter: str, shift: int) -> None:
    size = len(letter.encode())
    text = letter * (OUTPUT_LIMIT // size + 2) + "." * shift
    kept, dropped = printed(text.encode())
    assert text.endswith(kept)
    assert OUTPUT_LIMIT - size < len(kept.encode()) <= OUTPUT_LIMIT
    assert dropped + len(kept.encode()) == len(text.encode())


def test_memory_does_not_grow_with_the_output() -> None:
    output, piece = Output(), b"y\n" * 32 * 1024
    tracemalloc.start()
    for _ in range(200):
        output.add(piece)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * len(piece)
    assert output.tail().dropped == 200 * len(piece) - OUTPUT_LIMIT


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert printed(b"a\xff", b"\xc3", b"\xa9\xe2\x82") == ("a\ufffdé\ufffd", 0)


@given(st.text(max_size=200), st.lists(st.integers(0, 600), max_size=8))
def test_the_text_does_not_depend_on_the_pieces_of_the_output(text: str, cuts: list[int]) -> None:
    data = text.encode()
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert printed(*pieces) == (text, 0)


@given(
    st.lists(st.sampled_from(["a", "ab", "abc", "secret", "sec", "x", "ret", "\n"]), max_size=30),
    st.integers(1, 7),
)
def test_a_secret_in_any_pieces_is_masked(words: list[str], size: int) -> None:
    text = "".join(words)
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    secrets = ("secret", "abc", "sec")
    assert printed(*pieces, secrets=secrets) == (model(text, secrets), 0)


def model(text: str, secrets: tuple[str, ...]) -> str:
    """Masks from left to right, the longest secret first at each place."""
    found, at = "", 0
    while at < len(text):
        here = max((one for one in secrets if text.startswith(one, at)), key=len, default="")
        found += "***" if here else text[at]
        at += len(here) or 1
    return found


def test_no_part_of_a_secret_remains_at_the_cut() -> None:
    kept, _ = printed(b"hunter2hunter2" + b"x" * (OUTPUT_LIMIT - 4), secrets=("hunter2",))
    assert "ter2" not in kept

"""The code of the worker process of kind `python`, called within the process of the tests."""

import socket
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.function.worker import (
    RECEIPT_LIMIT,
    Context,
    Handler,
    answer,
    describe,
    encode_frame,
    find_function,
    read_frame,
)

CALL = {"request_id": "id1", "deadline": 5, "source": "t:0:1", "subscription": "sub", "attempt": 2}


def receiving(data: bytes, at_most: int = 1 << 20) -> Callable[[int], bytes]:
    rest = memoryview(data)

    def receive(count: int) -> bytes:
        nonlocal rest
        part, rest = bytes(rest[: min(count, at_most)]), rest[min(count, at_most) :]
        return part

    return receive


@given(st.dictionaries(st.text(), st.text() | st.integers()), st.binary(), st.integers(1, 5))
def test_a_frame_is_read_in_any_pieces(meta: dict[str, Any], body: bytes, at_most: int) -> None:
    assert read_frame(receiving(encode_frame(meta, body), at_most)) == (meta, body)


@given(st.integers(0, 20))
def test_an_incomplete_frame_is_an_eof(length: int) -> None:
    frame = encode_frame({"ok": True}, b"receipt")
    assert len(frame) > 20
    with pytest.raises(EOFError):
        read_frame(receiving(frame[:length]))


def outcome(handler: Handler, event: bytes = b"{}") -> tuple[dict[str, Any], bytes]:
    return read_frame(receiving(answer(handler, "audit:handler", (CALL, event))))


def test_the_function_gets_the_event_and_its_context() -> None:
    seen: list[tuple[bytes, Context]] = []

    def handler(event: bytes, context: Context) -> None:
        seen.append((event, context))

    assert outcome(handler, b"\x00event") == ({"ok": True}, b"")
    assert seen == [(b"\x00event", Context("id1", "audit:handler", 5, "t:0:1", "sub", 2))]


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("result", "receipt"),
    [
        (None, ""),
        ("done", "done"),
        (b"done", "b'done'"),
        ({"a": 1}, "{'a': 1}"),
        (0, "0"),
        ("x" * 1000, "x" * RECEIPT_LIMIT),
        ("\ud800", "?"),
        (Unprintable(), "unprintable Unprintable: ValueError: no words"),
    ],
)
def test_any_return_value_is_a_receipt(result: object, receipt: str) -> None:
    assert outcome(lambda event, context: result) == ({"ok": True}, receipt.encode())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no\n such disk"), "ValueError: no such disk"),
        (KeyError("a"), "KeyError: 'a'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt:"),
        (RuntimeError("x" * 1000), ("RuntimeError: " + "x" * 1000)[:RECEIPT_LIMIT]),
    ],
)
def test_any_exception_is_reported(error: BaseException, text: str) -> None:
    def handler(event: bytes, context: Context) -> None:
        raise error

    assert outcome(handler) == ({"error": text}, b"")
    assert describe(error) == text


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    (tmp_path / "helio_found.py").write_text("def handler(event, context): return 1\nvalue = 5\n")
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("helio_found", None)


def test_a_function_is_found_by_name(folder: Path) -> None:
    assert find_function("helio_found:handler")(b"", Context("", "", 0, "", "", 1)) == 1


@pytest.mark.parametrize("name", ["helio_found:value", "helio_found:gone"])
def test_a_name_that_is_not_a_function_is_an_error(folder: Path, name: str) -> None:
    with pytest.raises(TypeError, match="module helio_found has no function"):
        find_function(name)


def test_frames_cross_a_socket() -> None:
    ours, theirs = socket.socketpair()
    body = bytes(300_000)
    sender = threading.Thread(target=ours.sendall, args=(encode_frame({"a": 1}, body),))
    sender.start()
    assert read_frame(theirs.recv) == ({"a": 1}, body)
    sender.join()
    ours.close()
    theirs.close()

"""The process in which a user's function runs: `python -P worker.py MODULE:FUNCTION [FOLDER]`.

It uses the standard library only, so that it starts quickly and imports none of our modules beside the user's. Its
standard input is a socket that carries frames in both directions: two lengths (unsigned, 32 bits, big-endian), a JSON
object of the first length, a body of the second. The first frame out says whether the function was found; after that
each frame in is a call and gets one frame out. The process ends when the other side closes the socket, even during a
call. The function's output goes to standard output and standard error, which the other side reads.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RECEIPT_LIMIT = 200
"""Number of characters of the function's return value or exception that are reported."""
_LENGTHS = struct.Struct(">II")
_GRACE = 1.0
"""Seconds that a running function has after the other side has closed."""

Frame = tuple[dict[str, Any], bytes]


@dataclass(frozen=True)
class Context:
    """The second argument of a function.

    `request_id`: the delivery's id, the same for every repeat; `function_name`: `module:function`; `deadline`: when this
    process will be killed, in milliseconds since the epoch; `source`: the event's position as `topic:partition:offset`;
    `attempt`: counts from 1.
    """

    request_id: str
    function_name: str
    deadline: int
    source: str
    subscription: str
    attempt: int


Handler = Callable[[bytes, Context], object]


def encode_frame(meta: dict[str, Any], body: bytes = b"") -> bytes:
    """Returns a frame as bytes."""
    head = json.dumps(meta).encode()
    return b"".join((_LENGTHS.pack(len(head), len(body)), head, body))


def read_frame(receive: Callable[[int], bytes]) -> Frame:
    """Reads one frame. `receive` returns at most the given number of bytes. Raises EOFError if the other side has closed."""
    head_length, body_length = _LENGTHS.unpack(_exactly(receive, _LENGTHS.size))
    meta = json.loads(_exactly(receive, head_length))
    return meta, _exactly(receive, body_length)


def find_function(name: str) -> Handler:
    """Imports `module:function`. Raises whatever the import raises, and TypeError if there is no such function."""
    module, _, function = name.partition(":")
    found: Handler | None = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise TypeError(f"module {module} has no function {function}")
    return found


def answer(handler: Handler, name: str, call: Frame) -> bytes:
    """Calls the function and encodes the result: `{"ok": true}` with a receipt, or `{"error": "Type: message"}`."""
    meta, event = call
    try:
        result = handler(event, Context(function_name=name, **meta))
    except BaseException as error:  # noqa: BLE001 - sys.exit in a function ends the call, not the worker
        return encode_frame({"error": describe(error)})
    return encode_frame({"ok": True}, _receipt(result).encode(errors="replace"))


def describe(error: BaseException) -> str:
    """Returns the exception as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:RECEIPT_LIMIT]


def serve(connection: socket.socket, name: str) -> None:
    """Finds the function, then answers calls until the other side closes."""
    try:
        handler = find_function(name)
    except BaseException as error:  # noqa: BLE001 - whatever a module does when imported
        connection.sendall(encode_frame({"error": describe(error)}))
        return
    connection.sendall(encode_frame({"ok": True}))
    calls: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    threading.Thread(target=_take_calls, args=(connection, calls), daemon=True).start()
    worker = os.getpid()
    while (call := calls.get()) is not None:
        reply = answer(handler, name, call)
        if os.getpid() != worker:
            os._exit(0)  # a forked child: its answer would be taken for the answer to the next call
        connection.sendall(reply)


def main(name: str, folder: str = "") -> None:
    """Serves calls over the socket at standard input; the function gets an empty standard input instead."""
    connection = socket.socket(fileno=os.dup(0))
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    if folder:
        sys.path.insert(0, folder)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        serve(connection, name)
    except OSError:
        return  # the other side has closed; nobody would read an error


def _take_calls(connection: socket.socket, calls: queue.SimpleQueue[Frame | None]) -> None:
    try:
        while True:
            calls.put(read_frame(connection.recv))
    except (EOFError, OSError):
        calls.put(None)
    time.sleep(_GRACE)
    os._exit(1)


def _exactly(receive: Callable[[int], bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = receive(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _receipt(result: object) -> str:
    if result is None:
        return ""
    try:
        return (result if isinstance(result, str) else repr(result))[:RECEIPT_LIMIT]
    except Exception as error:  # noqa: BLE001 - the user's repr failed; the call itself succeeded
        return f"unprintable {type(result).__name__}: {describe(error)}"[:RECEIPT_LIMIT]


if __name__ == "__main__":
    main(*sys.argv[1:3])

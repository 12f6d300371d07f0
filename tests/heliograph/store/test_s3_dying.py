"""A writer that dies between the head and the body of its request leaves no object."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest

from heliograph.store.open import open_store
from heliograph.store.s3 import store as s3
from schemas.errors import StoreUnavailable
from tests.services.minio import minio
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["minio", "seaweedfs"]

SEEN_WITHIN = 1.0
"""Seconds in which a server has noticed that the connection broke off, and stored what it stores."""


@contextmanager
def heads_only(endpoint: str) -> Generator[str]:
    """An endpoint that passes on the head of each request and, when the server asks for the body, closes both
    connections."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    parts = urlsplit(endpoint)
    address = (parts.hostname or "", parts.port or 80)

    def serve() -> None:
        while not ended.is_set():
            client, _ = server.accept()
            with client, socket.create_connection(address) as upstream:
                head = b""
                while b"\r\n\r\n" not in head and (more := client.recv(65536)):
                    head += more
                if head:
                    upstream.sendall(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                    upstream.recv(65536)  # "100 Continue"

    thread = threading.Thread(target=serve)
    thread.start()
    port = server.getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        server.close()


@pytest.mark.parametrize("name", ["seaweedfs", "minio"])
def test_a_head_without_its_body_stores_nothing(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = request.getfixturevalue(name)
    assert isinstance(service, Service)
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(s3, "PAUSES", ())
    bucket = service.bucket()
    with (
        heads_only(service.endpoint) as endpoint,
        closing(open_store(service.url(bucket, endpoint=endpoint))) as dying,
        pytest.raises(StoreUnavailable),
    ):
        dying.put_new("x", b"whole")
    time.sleep(SEEN_WITHIN)
    with closing(open_store(service.url(bucket))) as honest:
        assert honest.head("x") is None
        assert honest.put_new("x", b"whole")

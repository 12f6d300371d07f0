"""The receiver on loopback: keeps the deliveries that it takes, and answers as its subclass decides."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from heliograph.testing.receiver import Answer, Receiver


class Choosy(Receiver):
    def answer(self, path: str) -> Answer:
        return Answer(410, takes=False) if path == "/gone" else Answer(202)


def post(receiver: Receiver, path: str, delivery: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=30)
    try:
        connection.request("POST", path, body, {"webhook-id": delivery})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_receiver_takes_every_delivery_and_keeps_repeats_under_one_id() -> None:
    with Receiver() as receiver:
        for delivery, body in (("a", b"1"), ("b", b"2"), ("a", b"1")):
            assert post(receiver, "/hook", delivery, body) == 200
        assert receiver.bodies == {"a": [b"1", b"1"], "b": [b"2"]}
        assert [arrival.delivery for arrival in receiver.arrivals] == ["a", "b", "a"]
        assert (receiver.count, receiver.arrived.is_set()) == (3, True)


def test_a_refused_delivery_counts_as_an_arrival() -> None:
    with Choosy() as receiver:
        assert [post(receiver, path, path, b"") for path in ("/gone", "/hook")] == [410, 202]
        assert (receiver.count, list(receiver.bodies)) == (2, ["/hook"])


def test_a_request_that_breaks_off_is_neither_kept_nor_logged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Receiver() as receiver:
        host, _, port = urlsplit(receiver.url).netloc.partition(":")
        with socket.create_connection((host, int(port))) as sender:
            sender.sendall(b"POST /hook HTTP/1.1\r\nwebhook-id: a\r\nContent-Length: 9\r\n\r\nhalf")
        assert post(receiver, "/hook", "b", b"2") == 200
        assert list(receiver.bodies) == ["b"]
    assert capfd.readouterr() == ("", "")

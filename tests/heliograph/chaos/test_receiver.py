"""What the receiver of chaos answers, and what it keeps all the same."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from heliograph.chaos.faults import Fault
from heliograph.chaos.receiver import FAILED_EACH, Misbehaving
from tests.acceptance.product import until


@pytest.fixture
def receiver() -> Iterator[Misbehaving]:
    with Misbehaving() as one:
        yield one
        one.behave(None)


def post(receiver: Misbehaving, delivery: str, path: str = "/hook") -> int:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=30)
    try:
        connection.request("POST", path, b"{}", {"webhook-id": delivery})
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_takes_most_and_some_fail(receiver: Misbehaving) -> None:
    statuses = [post(receiver, str(number)) for number in range(FAILED_EACH)]
    assert statuses == [200] * (FAILED_EACH - 1) + [500]
    assert list(receiver.bodies) == [str(number) for number in range(FAILED_EACH - 1)]
    assert receiver.count == FAILED_EACH


def test_what_it_refuses_for_good_it_does_not_take(receiver: Misbehaving) -> None:
    assert post(receiver, "1", "/refused") == 400
    assert (receiver.count, receiver.taken) == (1, [])


@pytest.mark.parametrize(("fault", "status"), [(Fault.DENY, 500), (Fault.LATE, 200)])
def test_a_lying_receiver_keeps_what_it_denies(receiver: Misbehaving, fault: Fault, status: int) -> None:
    receiver.behave(fault)
    assert post(receiver, "1") == status
    assert receiver.bodies == {"1": [b"{}"]}


def test_one_that_refuses_takes_every_second(receiver: Misbehaving) -> None:
    receiver.behave(Fault.REFUSE)
    assert [post(receiver, str(number)) for number in range(4)] == [503, 200, 503, 200]
    assert set(receiver.bodies) == {"1", "3"}


def test_one_that_is_stalled_takes_nothing_and_lets_go_when_it_is_well(receiver: Misbehaving) -> None:
    receiver.behave(Fault.STALL)
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(post(receiver, "1")))
    waiting.start()
    until(lambda: receiver.count == 1)
    assert statuses == []
    receiver.behave(None)
    waiting.join()
    assert (statuses, receiver.taken) == ([503], [])

"""The receiver of chaos: its answers, and the requests that it takes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from heliograph.chaos.faults import Fault
from heliograph.chaos.receiver import FAILED_EACH, FaultyReceiver
from tests.acceptance.product import until


@pytest.fixture
def receiver() -> Iterator[FaultyReceiver]:
    with FaultyReceiver() as one:
        yield one
        one.set_fault(None)


def post(receiver: FaultyReceiver, delivery: str, path: str = "/hook") -> int:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=30)
    try:
        connection.request("POST", path, b"{}", {"webhook-id": delivery})
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_takes_all_requests_but_one_in_seventeen(receiver: FaultyReceiver) -> None:
    statuses = [post(receiver, str(number)) for number in range(FAILED_EACH)]
    assert statuses == [200] * (FAILED_EACH - 1) + [500]
    assert list(receiver.bodies) == [str(number) for number in range(FAILED_EACH - 1)]
    assert receiver.count == FAILED_EACH


def test_a_refused_request_is_not_taken(receiver: FaultyReceiver) -> None:
    assert post(receiver, "1", "/refused") == 400
    assert (receiver.count, receiver.taken) == (1, [])


@pytest.mark.parametrize(("fault", "status"), [(Fault.DENY, 500), (Fault.LATE, 200)])
def test_a_request_is_taken_though_the_answer_is_late_or_a_failure(
    receiver: FaultyReceiver, fault: Fault, status: int
) -> None:
    receiver.set_fault(fault)
    assert post(receiver, "1") == status
    assert receiver.bodies == {"1": [b"{}"]}


def test_a_refusing_receiver_takes_every_second_request(receiver: FaultyReceiver) -> None:
    receiver.set_fault(Fault.REFUSE)
    assert [post(receiver, str(number)) for number in range(4)] == [503, 200, 503, 200]
    assert set(receiver.bodies) == {"1", "3"}


def test_a_stalled_request_is_answered_503_when_the_stall_ends_and_not_taken(
    receiver: FaultyReceiver,
) -> None:
    receiver.set_fault(Fault.STALL)
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(post(receiver, "1")))
    waiting.start()
    until(lambda: receiver.count == 1)
    assert statuses == []
    receiver.set_fault(None)
    waiting.join()
    assert (statuses, receiver.taken) == ([503], [])

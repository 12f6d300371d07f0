"""The queues of a lane, compared with a list that is searched from its start."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.queues import ClaimedDelivery, FifoQueue, OrderedQueue
from schemas.record import Position
from tests.router.deliver.sinks import delivery

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("put", "pop", "complete", "put back", "take resource", "take all")),
        st.integers(0, 3),
    ),
    max_size=60,
)


def claimed(number: int, resource: int) -> ClaimedDelivery:
    one = msgspec.structs.replace(delivery(number), resource=f"i-{resource}")
    return ClaimedDelivery(Position("deliveries", 0, number), one)


@given(STEPS)
def test_an_ordered_queue_hands_out_one_delivery_of_a_resource_at_a_time_in_order(
    steps: list[tuple[str, int]],
) -> None:
    queue = OrderedQueue()
    model: list[ClaimedDelivery] = []
    in_flight: list[ClaimedDelivery] = []
    for number, (step, resource) in enumerate(steps):
        match step:
            case "put":
                queue.put(claimed(number, resource))
                model.append(claimed(number, resource))
            case "pop":
                busy = {one.delivery.resource for one in in_flight}
                free = [one for one in model if one.delivery.resource not in busy]
                popped = queue.pop()
                assert (popped is None) == (not free)
                if popped is not None:
                    assert popped == next(
                        one for one in free if one.delivery.resource == popped.delivery.resource
                    )
                    model.remove(popped)
                    in_flight.append(popped)
            case "complete" if in_flight:
                queue.complete([in_flight.pop(resource % len(in_flight))])
            case "put back" if in_flight:
                back = in_flight.pop(resource % len(in_flight))
                queue.put_back([back])
                model.insert(0, back)
            case "take resource":
                wanted = [one for one in model if one.delivery.resource == f"i-{resource}"]
                assert queue.take_resource(f"i-{resource}") == wanted
                model = [one for one in model if one not in wanted]
            case "take all":
                assert sorted(queue.take_all()) == sorted(model)
                model = []
            case _:
                pass
        assert len(queue) == len(model)


def test_a_fifo_queue_puts_recalled_deliveries_back_at_the_front() -> None:
    queue = FifoQueue()
    for number in range(4):
        queue.put(claimed(number, 0))
    taken = [queue.pop(), queue.pop()]
    queue.put_back([one for one in taken if one is not None])
    assert [one.position.offset for one in queue.take_all()] == [0, 1, 2, 3]
    assert queue.pop() is None

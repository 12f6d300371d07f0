"""What waits in a lane, against a list that is looked through each time."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.waiting import InOrder, OneOfEach, Parcel
from schemas.record import Position
from tests.router.deliver.sinks import delivery

STEPS = st.lists(
    st.tuples(st.sampled_from(("put", "pop", "end", "back", "of", "clear")), st.integers(0, 3)), max_size=60
)


def parcel(number: int, resource: int) -> Parcel:
    one = msgspec.structs.replace(delivery(number), resource=f"i-{resource}")
    return Parcel(Position("deliveries", 0, number), one)


@given(STEPS)
def test_of_each_resource_one_at_a_time_and_in_order(steps: list[tuple[str, int]]) -> None:
    waiting = OneOfEach()
    model: list[Parcel] = []
    out: list[Parcel] = []
    for number, (step, resource) in enumerate(steps):
        match step:
            case "put":
                waiting.put(parcel(number, resource))
                model.append(parcel(number, resource))
            case "pop":
                busy = {one.delivery.resource for one in out}
                free = [one for one in model if one.delivery.resource not in busy]
                popped = waiting.pop()
                assert (popped is None) == (not free)
                if popped is not None:
                    assert popped == next(
                        one for one in free if one.delivery.resource == popped.delivery.resource
                    )
                    model.remove(popped)
                    out.append(popped)
            case "end" if out:
                waiting.ended([out.pop(resource % len(out))])
            case "back" if out:
                back = out.pop(resource % len(out))
                waiting.put_back([back])
                model.insert(0, back)
            case "of":
                wanted = [one for one in model if one.delivery.resource == f"i-{resource}"]
                assert waiting.of(f"i-{resource}") == wanted
                model = [one for one in model if one not in wanted]
            case "clear":
                assert sorted(waiting.clear()) == sorted(model)
                model = []
            case _:
                pass
        assert len(waiting) == len(model)


def test_in_order_puts_back_before_the_rest() -> None:
    waiting = InOrder()
    for number in range(4):
        waiting.put(parcel(number, 0))
    taken = [waiting.pop(), waiting.pop()]
    waiting.put_back([one for one in taken if one is not None])
    assert [one.position.offset for one in waiting.clear()] == [0, 1, 2, 3]
    assert waiting.pop() is None

"""The agent's policy: permissions and due times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.policy import (
    ACCEPT_WITHIN,
    LATE,
    SEND_FILE,
    DueDecision,
    Policy,
    check_permitted,
    decide_due,
    digest,
    first_due,
    is_immediate,
)
from producers.assistant.refusal import Refusal
from producers.assistant.requests import File, Invocation, Run, SendFile
from schemas.execution import RecordState, RepeatMode
from schemas.execution_errors import ErrorCode
from tests.producers.assistant.fleet import NOW, REGION, command

MINUTE = 60_000


def run(**fields: Any) -> Run:
    values: dict[str, Any] = {"invoke_id": "t-1", "instances": ("i-1",), "command": command(), **fields}
    return Run(id="r-1", time=NOW, region=REGION, caller=7, **values)


FILE = SendFile(
    id="r-1",
    time=NOW,
    region=REGION,
    caller=7,
    invoke_id="f-1",
    instances=("i-1",),
    file=File(name="a", content="b"),
)
EACH_MINUTE = run(mode=RepeatMode.PERIOD, frequency="0 * * * * ?", command=command(timeout=10))


@pytest.mark.parametrize(
    ("allow", "asked", "allowed"),
    [
        ((), run(), True),
        (("greet",), run(), True),
        (("other",), run(), False),
        ((digest("echo hello"),), run(command=command(name="called-otherwise")), True),
        ((digest("echo hello"),), run(command=command("echo hello; rm x")), False),
        (("greet",), FILE, False),
        (("greet", SEND_FILE), FILE, True),
    ],
)
def test_the_allow_list_permits_names_digests_and_sent_files(
    allow: tuple[str, ...], asked: Invocation, allowed: bool
) -> None:
    policy = Policy(frozenset(allow))
    if allowed:
        check_permitted(policy, asked, NOW)
    else:
        with pytest.raises(Refusal, match="not on the agent's allow list") as refused:
            check_permitted(policy, asked, NOW)
        assert refused.value.state is RecordState.INVALID


@pytest.mark.parametrize("asked", [run(), FILE])
def test_a_request_that_is_too_old_is_refused(asked: Invocation) -> None:
    check_permitted(Policy(), asked, NOW + ACCEPT_WITHIN)
    with pytest.raises(Refusal) as refused:
        check_permitted(Policy(), asked, NOW + ACCEPT_WITHIN + 1)
    assert refused.value.code is ErrorCode.DELIVERY_TIMEOUT


def test_a_scheduled_request_is_never_too_old() -> None:
    check_permitted(Policy(), EACH_MINUTE, NOW + 10 * ACCEPT_WITHIN)


def test_the_first_due_time_depends_on_the_repeat_mode() -> None:
    assert first_due(run()) == first_due(FILE) == 0
    assert first_due(run(mode=RepeatMode.NEXT_REBOOT_ONLY)) is None
    assert first_due(run(mode=RepeatMode.EVERY_REBOOT)) is None
    assert first_due(run(mode=RepeatMode.PERIOD, frequency="rate(5m)")) == NOW + 5 * MINUTE
    assert [is_immediate(one) for one in (run(), FILE, EACH_MINUTE)] == [True, True, False]


@pytest.mark.parametrize(
    ("late", "running", "catch_up", "expected"),
    [
        (0, False, False, DueDecision(True, 1, 0)),
        (LATE, False, False, DueDecision(True, 1, 0)),
        (LATE + 1, False, False, DueDecision(False, 1, 1)),
        (LATE + 1, False, True, DueDecision(True, 1, 0)),
        (0, True, False, DueDecision(False, 1, 1)),
        (0, True, True, DueDecision(False, 1, 1)),
        (5 * MINUTE, False, False, DueDecision(True, 6, 5)),
        (5 * MINUTE + 30_000, False, False, DueDecision(False, 6, 6)),
        (5 * MINUTE + 30_000, False, True, DueDecision(True, 6, 5)),
    ],
)
def test_a_due_time_is_run_or_missed_by_its_delay(
    late: int, running: bool, catch_up: bool, expected: DueDecision
) -> None:
    due = first_due(EACH_MINUTE)
    assert due is not None
    following = due + (expected.following or 0) * MINUTE
    found = decide_due(Policy(catch_up=catch_up), EACH_MINUTE, due, due + late, running=running)
    assert found == expected._replace(following=following)


@given(st.lists(st.tuples(st.integers(1, 40 * MINUTE), st.booleans()), max_size=30), st.booleans())
def test_every_due_time_is_run_or_missed_exactly_once(waits: list[tuple[int, bool]], catch_up: bool) -> None:
    due, now, runs, missed = first_due(EACH_MINUTE), NOW, 0, 0
    for wait, running in waits:
        now += wait
        if due is not None and due <= now:
            found = decide_due(Policy(catch_up=catch_up), EACH_MINUTE, due, now, running=running)
            runs, missed, due = runs + found.run, missed + found.missed, found.following
    elapsed = now // MINUTE - NOW // MINUTE
    assert runs + missed == elapsed


def test_a_missed_single_time_has_no_next_time() -> None:
    at = run(mode=RepeatMode.PERIOD, frequency="at(2025-10-09 09:00:00)")
    due = first_due(at)
    assert due is not None
    assert decide_due(Policy(), at, due, due, running=False) == DueDecision(True, None, 0)
    assert decide_due(Policy(), at, due, due + MINUTE, running=False) == DueDecision(False, None, 1)

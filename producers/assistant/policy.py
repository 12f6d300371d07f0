"""What an agent may do, and when: frozen data and pure functions. Times are milliseconds since the epoch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from producers.assistant.refusal import Refusal
from producers.assistant.requests import Invocation, Run, SendFile
from producers.assistant.schedule import next_time, parse_schedule
from schemas.errors import InputError
from schemas.execution import RecordState, RepeatMode
from schemas.execution_errors import ErrorCode

ACCEPT_WITHIN = 600_000
"""How late what is to be done once is still begun: an agent that was down for longer does not surprise anybody."""
LATE = 10_000
"""How late a scheduled run is still begun; the least time between two of them, so none meets the next."""
CLOCK_STEP = 10_800_000
"""By how much a clock may be put back without the times between coming again: three hours, as cron of Vixie has it."""
SEND_FILE = "send-file"
"""What stands for sent files in an allow list."""
_DIGEST = "sha256:"
_is_digest = re.compile(rf"{_DIGEST}[0-9a-f]{{64}}").fullmatch


@dataclass(frozen=True, slots=True)
class Policy:
    """`allow`: names of commands, `sha256:` and the digest of a script, or `send-file`; empty: everything.
    `catch_up`: whether times that were missed are made up for by one run. `at_once`: how many runs at a time."""

    allow: frozenset[str] = frozenset()
    catch_up: bool = False
    at_once: int = 20


class DueDecision(NamedTuple):
    """What a due time leads to: whether to run, when the next time is (None: never), and how many were missed."""

    run: bool
    following: int | None
    missed: int = 0


def digest(content: str) -> str:
    """How an allow list names a script, whatever it is called."""
    return f"{_DIGEST}{sha256(content.encode()).hexdigest()}"


def check_allow(one: str) -> None:
    """Whether one of an allow list can be met. Raises InputError."""
    if one.startswith(_DIGEST) and not _is_digest(one):
        raise InputError(f"--allow {one!r}: expected {_DIGEST} and 64 hexadecimal digits in lower case")


def permit(policy: Policy, asked: Invocation, now: int) -> None:
    """Raise Refusal for what the agent does not do: what is not on its list, what comes too late."""
    if is_too_late(asked, now):
        late = (now - asked.time) // 1000
        raise Refusal(ErrorCode.DELIVERY_TIMEOUT, f"it could not be begun for {late} s", RecordState.ABORTED)
    if not policy.allow or policy.allow & _names(asked):
        return
    why = "it is not on the agent's list of what it may do"
    code = ErrorCode.COMMAND_NOT_APPLICABLE if isinstance(asked, Run) else ErrorCode.FILE_AUTHORITY_INVALID
    raise Refusal(code, why, RecordState.INVALID)


def is_too_late(asked: Invocation, now: int) -> bool:
    """Whether what is to be done at once is not begun any more."""
    return is_immediate(asked) and now - asked.time > ACCEPT_WITHIN


def is_immediate(asked: Invocation) -> bool:
    """Whether it is to be done now, and once: not on a schedule, nor at a start of the agent."""
    return isinstance(asked, SendFile) or asked.mode is RepeatMode.ONCE


def first_due(asked: Invocation) -> int | None:
    """When the first run is due, 0 for at once; None: at the next start of the agent."""
    if isinstance(asked, SendFile):
        return 0
    match asked.mode:
        case RepeatMode.ONCE:
            return 0
        case RepeatMode.PERIOD:
            return next_time(parse_schedule(asked.frequency), asked.time, asked.time)
        case RepeatMode.NEXT_REBOOT_ONLY | RepeatMode.EVERY_REBOOT:
            return None


def decide_due(policy: Policy, asked: Invocation, due: int, now: int, *, running: bool) -> DueDecision:
    """What to do about a time that is due by `now`. `running`: whether the run before it still goes on, beside which
    none is begun."""
    if isinstance(asked, SendFile) or asked.mode is not RepeatMode.PERIOD:
        return DueDecision(run=True, following=None)
    timing = parse_schedule(asked.frequency)
    latest, missed = due, 0
    following = next_time(timing, asked.time, latest)
    while following is not None and following <= now:
        latest, missed = following, missed + 1
        following = next_time(timing, asked.time, latest)
    run = not running and (policy.catch_up or now - latest <= LATE)
    return DueDecision(run, following, missed if run else missed + 1)


def due_after_clock_step(asked: Invocation, due: int, now: int) -> int | None:
    """When a schedule is due after all, where a clock that was ahead has put it off; None: at `due`, as it is."""
    if isinstance(asked, SendFile) or asked.mode is not RepeatMode.PERIOD:
        return None
    timing = parse_schedule(asked.frequency)
    soon = next_time(timing, asked.time, now + CLOCK_STEP)
    return next_time(timing, asked.time, now) if soon is not None and soon < due else None


def _names(asked: Invocation) -> frozenset[str]:
    if isinstance(asked, SendFile):
        return frozenset({SEND_FILE})
    return frozenset({asked.command.name, digest(asked.command.content)})

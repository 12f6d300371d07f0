"""The policy of an agent: permissions and due times, as frozen data and pure functions.

Times are milliseconds since the epoch.
"""

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
"""Age in milliseconds after which an immediate request is not run, so that an agent that was down runs no old
command."""
LATE = 10_000
"""Delay in milliseconds after which a scheduled time counts as missed. It equals the least interval of schedules, so
that a late run does not meet the next one."""
CLOCK_STEP = 10_800_000
"""Largest step back of the clock, in milliseconds, after which a schedule repeats no time: three hours, as in Vixie
cron. After a larger step the schedule follows the new time, and may repeat times."""
SEND_FILE = "send-file"
"""Entry of an allow list that permits sent files."""
_DIGEST = "sha256:"
_is_digest = re.compile(rf"{_DIGEST}[0-9a-f]{{64}}").fullmatch


@dataclass(frozen=True, slots=True)
class Policy:
    """Permissions of an agent.

    `allow`: names of commands, digests of scripts as `sha256:…`, and `send-file`; an empty list permits everything.
    `catch_up`: True if one run makes up for missed times. `concurrency`: runs at the same time.
    """

    allow: frozenset[str] = frozenset()
    catch_up: bool = False
    concurrency: int = 20


class DueDecision(NamedTuple):
    """The decision about a due time. `run`: True to start a run now; `following`: the next time of the schedule, or
    None; `missed`: number of missed times."""

    run: bool
    following: int | None
    missed: int = 0


def digest(content: str) -> str:
    """Returns the entry of an allow list that permits a script under any name."""
    return f"{_DIGEST}{sha256(content.encode()).hexdigest()}"


def check_allow(entry: str) -> None:
    """Checks an entry of an allow list. Raises InputError for an entry that begins as a digest and is not valid."""
    if entry.startswith(_DIGEST) and not _is_digest(entry):
        raise InputError(f"--allow {entry!r}: expected {_DIGEST} and 64 hexadecimal digits in lower case")


def check_permitted(policy: Policy, invocation: Invocation, now: int) -> None:
    """Raises Refusal for a request that comes too late or is not on the agent's allow list."""
    if is_too_late(invocation, now):
        late = (now - invocation.time) // 1000
        raise Refusal(
            ErrorCode.DELIVERY_TIMEOUT,
            f"the request is {late} s old; agents start requests only within {ACCEPT_WITHIN // 1000} s",
            RecordState.ABORTED,
        )
    if not policy.allow or policy.allow & _names(invocation):
        return
    why = "it is not on the agent's allow list"
    code = (
        ErrorCode.COMMAND_NOT_APPLICABLE if isinstance(invocation, Run) else ErrorCode.FILE_AUTHORITY_INVALID
    )
    raise Refusal(code, why, RecordState.INVALID)


def is_too_late(invocation: Invocation, now: int) -> bool:
    """True if the request is immediate and too old to start."""
    return is_immediate(invocation) and now - invocation.time > ACCEPT_WITHIN


def is_immediate(invocation: Invocation) -> bool:
    """True if the request is for one run now, not for a schedule or a start of the agent."""
    return isinstance(invocation, SendFile) or invocation.mode is RepeatMode.ONCE


def first_due(invocation: Invocation) -> int | None:
    """Returns the time of the first run: 0 for now, None for the next start of the agent."""
    if isinstance(invocation, SendFile):
        return 0
    match invocation.mode:
        case RepeatMode.ONCE:
            return 0
        case RepeatMode.PERIOD:
            return next_time(parse_schedule(invocation.frequency), invocation.time, invocation.time)
        case RepeatMode.NEXT_REBOOT_ONLY | RepeatMode.EVERY_REBOOT:
            return None


def decide_due(policy: Policy, invocation: Invocation, due: int, now: int, *, running: bool) -> DueDecision:
    """Decides whether a run starts for the due time `due`, which is not later than `now`. `running`: True if the
    previous run has not ended, so that none starts."""
    if isinstance(invocation, SendFile) or invocation.mode is not RepeatMode.PERIOD:
        return DueDecision(run=True, following=None)
    schedule = parse_schedule(invocation.frequency)
    latest, missed = due, 0
    following = next_time(schedule, invocation.time, latest)
    while following is not None and following <= now:
        latest, missed = following, missed + 1
        following = next_time(schedule, invocation.time, latest)
    run = not running and (policy.catch_up or now - latest <= LATE)
    return DueDecision(run, following, missed if run else missed + 1)


def due_after_clock_step(invocation: Invocation, due: int, now: int) -> int | None:
    """Returns the next time of a schedule if `due` was computed by a clock that was ahead; None if `due` is right."""
    if isinstance(invocation, SendFile) or invocation.mode is not RepeatMode.PERIOD:
        return None
    schedule = parse_schedule(invocation.frequency)
    soon = next_time(schedule, invocation.time, now + CLOCK_STEP)
    return next_time(schedule, invocation.time, now) if soon is not None and soon < due else None


def _names(invocation: Invocation) -> frozenset[str]:
    if isinstance(invocation, SendFile):
        return frozenset({SEND_FILE})
    return frozenset({invocation.command.name, digest(invocation.command.content)})

"""Rounds of chaos: each a fresh deployment under the faults of a seed, reconciled before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.chaos.books import Finding, Wrong, findings, take
from heliograph.chaos.drive import Drive, Stuck
from heliograph.chaos.faults import Fault, schedule
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import Misbehaving
from heliograph.chaos.report import Report, report
from heliograph.chaos.scratch import Place, scratch, subscriptions
from heliograph.operations.subscriptions import apply
from schemas.errors import BusError
from sinks.kinds import KINDS

KILLS_A_ROUND = 20
"""After which a round ends: what is compared fits into memory however long it goes on, and what a round found can be
had again from its seed."""

Enough = Callable[[int], bool]
"""Whether so many kills are enough now."""
Tell = Callable[[str], None]


def torment(place: Place, *, seed: int, seconds: float, kills: int, tell: Tell) -> Report:
    """Rounds for so many seconds, or until so many kills were made if `kills` is not 0; each has the next seed.

    `tell` is given a line for each fault and each round. It ends with the first round that found something. Raises
    InvalidConfiguration, BusError, StoreError.
    """
    ends = time.monotonic() + seconds
    total = Report()

    def enough(made: int) -> bool:
        return total.kills + made >= kills if kills else time.monotonic() >= ends

    while not total.findings and (total.rounds == 0 or not enough(0)):
        number = seed + total.rounds
        one = _round(place, number, lambda made: made >= KILLS_A_ROUND or enough(made), tell)
        tell(f"seed {number}: {one.line()}")
        total = total.plus(one)
    return total


def _round(place: Place, seed: int, enough: Enough, tell: Tell) -> Report:
    with ExitStack() as opened:
        ground = opened.enter_context(scratch(place))
        receiver = opened.enter_context(Misbehaving())
        deployment = opened.enter_context(Deployment(load(ground.environment)))
        subscribed = subscriptions(receiver.url)
        apply(deployment.bus, subscribed, KINDS)
        processes = opened.enter_context(Processes(ground.folder, ground.environment))
        targets = sum(len(subscription.target) for subscription in subscribed)
        drive = Drive(
            deployment, processes, receiver, seed=seed, targets=targets, broker_pid=place.broker_pid
        )
        found: list[Finding] = []
        try:
            for stroke in schedule(seed, place.grounds):
                if enough(drive.made[Fault.KILL]):
                    break
                tell(str(stroke))
                drive.turn(stroke)
            drive.rest()
        except (Stuck, BusError) as error:
            found.append(Finding(Wrong.FAILED, str(error)))
        processes.kill_all()
        books = take(deployment, receiver, subscribed, drive.accepted)
        found += findings(books)
        if found:
            ground.keep(books.arrivals)
            tell(f"kept, with what the roles logged and what arrived: {ground.folder}")
        return report(books, drive.made, drive.appended, found)

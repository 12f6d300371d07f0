"""Rounds of chaos: each runs a new deployment under the faults of a seed, and checks it before the next round."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.chaos.driver import Driver, Stuck
from heliograph.chaos.faults import Fault, schedule
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import FaultyReceiver
from heliograph.chaos.report import Report, build_report
from heliograph.chaos.scratch import ENDINGS, Services, read_subscriptions, scratch_deployment
from heliograph.demo.reconcile import Finding, Problem, find_problems, read_run
from heliograph.operations.subscriptions import apply
from schemas.errors import BusError
from schemas.topics import EVENTS_OTHER
from sinks.kinds import KINDS

KILLS_A_ROUND = 20
"""Kills after which a round ends.

This bounds the memory for the comparison, and a round can be repeated from its seed.
"""

Enough = Callable[[int], bool]
"""Returns True if this number of kills in the round is enough."""
Tell = Callable[[str], None]


def run_chaos(services: Services, *, seed: int, seconds: float, kills: int, tell: Tell) -> Report:
    """Runs rounds for a time in seconds, or until `kills` kills were made if that is not 0; each has the next seed.

    `tell` gets a line for each fault and each round. The first round with a finding is the last. Raises
    InvalidConfiguration, BusError, StoreError.
    """
    ends = time.monotonic() + seconds
    total = Report()

    def enough(made: int) -> bool:
        return total.kills + made >= kills if kills else time.monotonic() >= ends

    while not total.findings and (total.rounds == 0 or not enough(0)):
        number = seed + total.rounds
        one = _run_round(services, number, lambda made: made >= KILLS_A_ROUND or enough(made), tell)
        tell(f"seed {number}: {one.line()}")
        total = total.plus(one)
    return total


def _run_round(services: Services, seed: int, enough: Enough, tell: Tell) -> Report:
    with ExitStack() as opened:
        scratch = opened.enter_context(scratch_deployment(services))
        receiver = opened.enter_context(FaultyReceiver())
        deployment = opened.enter_context(Deployment(load(scratch.environment)))
        subscriptions = read_subscriptions(receiver.url)
        apply(deployment.bus, subscriptions, KINDS)
        deployment.bus.create(
            EVENTS_OTHER
        )  # on Kafka a router joins its group only once a topic of events exists
        processes = opened.enter_context(Processes(scratch.folder, scratch.environment))
        targets = sum(len(subscription.target) for subscription in subscriptions)
        driver = Driver(
            deployment, processes, receiver, seed=seed, targets=targets, broker_pid=services.broker_pid
        )
        found: list[Finding] = []
        try:
            for planned in schedule(seed, services.met_requirements):
                if enough(driver.faults[Fault.KILL]):
                    break
                tell(str(planned))
                driver.run_turn(planned)
            driver.wait_for_rest()
        except (Stuck, BusError) as error:
            found.append(Finding(Problem.FAILED, str(error)))
        processes.kill_all()
        run = read_run(
            deployment, receiver, subscriptions=subscriptions, endings=ENDINGS, accepted=driver.accepted
        )
        found += find_problems(run)
        if found:
            scratch.keep(run.arrivals)
            tell(
                f"kept the folder, with the roles' log lines and the requests that arrived: {scratch.folder}"
            )
        return build_report(run, faults=driver.faults, appended=driver.appended, findings=found)

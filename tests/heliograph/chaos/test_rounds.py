"""Rounds of chaos: they follow each other until the limit is reached or a round has a finding."""

from __future__ import annotations

import pytest

from heliograph.chaos import rounds as rounds_module
from heliograph.chaos.faults import Fault
from heliograph.chaos.report import Report
from heliograph.chaos.rounds import Enough, Tell, run_chaos
from heliograph.chaos.scratch import Services
from heliograph.demo.reconcile import Finding, Problem


class Rounds:
    """Replaces `_run_round`: counts kills until they are enough, and has a finding with one seed."""

    def __init__(self, finding_with: int = 0) -> None:
        self.made: list[tuple[int, int]] = []
        self._finding_with = finding_with

    def __call__(self, _: Services, seed: int, enough: Enough, tell: Tell) -> Report:
        kills = next(made for made in range(1000) if enough(made))
        self.made.append((seed, kills))
        tell(f"{kills}")
        found = [Finding(Problem.LOST, "an event")] if seed == self._finding_with else []
        return Report(rounds=1, faults={Fault.KILL: kills}, findings=found)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    made = Rounds()
    monkeypatch.setattr(rounds_module, "_run_round", made)
    return made


def test_kills_are_counted_over_rounds_each_with_the_next_seed(rounds: Rounds) -> None:
    told: list[str] = []
    total = run_chaos(Services(), seed=7, seconds=0, kills=45, tell=told.append)
    assert rounds.made == [(7, 20), (8, 20), (9, 5)]
    assert (total.rounds, total.kills) == (3, 45)
    assert [line for line in told if line.startswith("seed 9: 5 kills")]


def test_one_round_is_run_however_short_the_time(rounds: Rounds) -> None:
    run_chaos(Services(), seed=1, seconds=0, kills=0, tell=lambda _: None)
    assert rounds.made == [(1, 0)]


def test_a_round_with_a_finding_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rounds(finding_with=2)
    monkeypatch.setattr(rounds_module, "_run_round", made)
    total = run_chaos(Services(), seed=1, seconds=0, kills=100, tell=lambda _: None)
    assert [seed for seed, _ in made.made] == [1, 2]
    assert total.lost == 1

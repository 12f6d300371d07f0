"""Rounds follow each other until it is enough, or until something is wrong."""

from __future__ import annotations

import pytest

from heliograph.chaos import torment as torment_module
from heliograph.chaos.books import Finding, Wrong
from heliograph.chaos.faults import Fault
from heliograph.chaos.report import Report
from heliograph.chaos.scratch import Place
from heliograph.chaos.torment import Enough, Tell, torment


class Rounds:
    """Stands for `_round`: kills until it is told that it is enough, and finds something with one seed."""

    def __init__(self, wrong_with: int = 0) -> None:
        self.made: list[tuple[int, int]] = []
        self._wrong_with = wrong_with

    def __call__(self, _: Place, seed: int, enough: Enough, tell: Tell) -> Report:
        kills = next(made for made in range(1000) if enough(made))
        self.made.append((seed, kills))
        tell(f"{kills}")
        found = [Finding(Wrong.LOST, "an event")] if seed == self._wrong_with else []
        return Report(rounds=1, faults={Fault.KILL: kills}, findings=found)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    made = Rounds()
    monkeypatch.setattr(torment_module, "_round", made)
    return made


def test_kills_are_counted_over_rounds_each_with_the_next_seed(rounds: Rounds) -> None:
    told: list[str] = []
    total = torment(Place(), seed=7, seconds=0, kills=45, tell=told.append)
    assert rounds.made == [(7, 20), (8, 20), (9, 5)]
    assert (total.rounds, total.kills) == (3, 45)
    assert [line for line in told if line.startswith("seed 9: 5 kills")]


def test_there_is_a_round_however_short_the_time(rounds: Rounds) -> None:
    torment(Place(), seed=1, seconds=0, kills=0, tell=lambda _: None)
    assert rounds.made == [(1, 0)]


def test_a_round_that_found_something_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rounds(wrong_with=2)
    monkeypatch.setattr(torment_module, "_round", made)
    total = torment(Place(), seed=1, seconds=0, kills=100, tell=lambda _: None)
    assert [seed for seed, _ in made.made] == [1, 2]
    assert total.lost == 1

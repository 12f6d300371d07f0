"""Random histories of letters, crashing redrives, drops and retention, compared with a model of what is listed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from heliograph.operations.dead_letters import LetterFilter, append_dropped, read_letters
from heliograph.operations.redrive import Order, Redrive
from schemas.delivery import Delivery
from tests.archiver.stores import Crash
from tests.heliograph.operations.redriving import DeploymentParts, letter

RESOURCES = 3


class Redrives(RuleBasedStateMachine):
    """The model: the ids of dead, under-way, dropped and delivered deliveries; redrives keep the ids."""

    @initialize()
    def begin(self) -> None:
        self.parts = DeploymentParts()
        self.made = 0
        self.redrives = 0
        self.letters: dict[str, Delivery] = {}
        self.dead: set[str] = set()
        self.under_way: set[str] = set()
        self.dropped: set[str] = set()
        self.delivered: set[str] = set()

    @rule(count=st.integers(1, 4))
    def end_as_dead(self, count: int) -> None:
        for _ in range(count):
            one = letter(self.made, resource=f"r-{self.made % RESOURCES}")
            self.made += 1
            self.parts.end_as_dead(one)
            self.letters[one.id] = one
            self.dead.add(one.id)

    @rule(
        order=st.sampled_from(Order),
        resource=st.sampled_from(["", *(f"r-{number}" for number in range(RESOURCES))]),
        lives=st.integers(0, 4),
        before=st.booleans(),
    )
    def redrive(self, order: Order, resource: str, lives: int, before: bool) -> None:
        """Runs a redrive that crashes, and resumes it."""
        self.redrives += 1
        redrive = Redrive(
            id=f"redrive-{self.redrives}", selection=LetterFilter(resource=resource), order=order, rate=2
        )
        chosen = {one for one in self.dead if not resource or self.letters[one].resource == resource}
        sent = self._newest(chosen, resource) if order is Order.NEWEST_PER_RESOURCE else chosen
        appended = Counter(one.id for one in self.parts.appended())
        self.parts.bus.left, self.parts.bus.before = lives, before
        with suppress(Crash):
            self.parts.redrive(redrive)
        self.parts.bus.left = None
        self.parts.redrive(redrive)
        assert Counter(one.id for one in self.parts.appended()) - appended == Counter(sent)
        self.dead -= chosen
        self.under_way |= sent
        self.dropped |= chosen - sent

    def _newest(self, chosen: set[str], resource: str) -> set[str]:
        """Returns the newest chosen delivery of each resource, if no newer one is under way."""
        newest: dict[str, str] = {}
        rivals = [one for one in self.under_way if not resource or self.letters[one].resource == resource]
        for one in sorted([*chosen, *rivals], key=lambda each: self.letters[each].source.offset):
            newest[self.letters[one].resource] = one
        return chosen & set(newest.values())

    @rule(luck=st.integers(0, 15))
    def end(self, luck: int) -> None:
        """Ends every delivery under way as delivered or dead."""
        through = {one for one in self.under_way if luck >> self.letters[one].source.offset % 4 & 1}
        self.parts.end(lambda one: one.id in through)
        self.delivered |= through
        self.dead |= self.under_way - through
        self.under_way = set()

    @rule(number=st.integers(0, 20))
    def drop(self, number: int) -> None:
        chosen = {one for one in self.dead if self.letters[one].source.offset == number}
        if chosen:
            letters = self.parts.listed(LetterFilter(deliveries=frozenset(chosen)))
            for batch in read_letters(self.parts.history(), letters):
                append_dropped(self.parts.bus, batch, self.parts.clock.now(), by="jo@host", why="old")
            self.dead -= chosen
            self.dropped |= chosen

    @rule()
    def archive_and_truncate(self) -> None:
        """Archives everything; retention removes it from the bus."""
        self.parts.archive_and_truncate()

    @invariant()
    def deliveries_neither_delivered_nor_dropped_are_listed(self) -> None:
        listed = [one.id for one in self.parts.listed()]
        assert sorted(listed) == sorted(self.dead | self.under_way)
        everything = {one.id for one in self.parts.listed(dropped=True)}
        assert everything == self.dead | self.under_way | self.dropped


Redrives.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
TestRedrives = Redrives.TestCase

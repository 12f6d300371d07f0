"""A caller and agents on a bus in memory, for tests, which step the agents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.memory import MemoryBus
from producers.assistant.agent import Agent
from producers.assistant.caller import REQUESTS, Caller, Quotas
from producers.assistant.journal import Journal
from producers.assistant.policy import Policy
from producers.assistant.reporting import Instance
from producers.assistant.requests import Command, Run
from producers.assistant.signing import Keys
from producers.assistant.task import Host
from producers.edge import Edge
from schemas.clock import ManualClock
from schemas.execution import (
    CommandRecord,
    CommandType,
    ExecutionRecord,
    FileRecord,
    RecordState,
    RepeatMode,
    check_execution,
)
from schemas.execution_errors import ErrorCode
from schemas.record import Record, TopicPartition
from schemas.secrets import Secret
from schemas.topics import COMMANDS, EXECUTIONS

REGION = "cn-hangzhou"
KEY = b"k" * 32
NOW = 1_760_000_000_000
QUOTAS = Quotas(kept_commands=100, daily_runs=5000)


def command(content: str = "echo hello", *, timeout: int = 60, name: str = "greet") -> Command:
    return Command(command_id="c-1", name=name, type=CommandType.SHELL, content=content, timeout=timeout)


def all_records(bus: MemoryBus, topic: str) -> list[Record]:
    partitions = range(bus.topics().get(topic, 0))
    return [record for p in partitions for record in bus.read(TopicPartition(topic, p), 0).records]


@dataclass
class Fleet:
    """A caller and the agents of several instances. Each agent has a folder of its own."""

    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    agents: dict[str, Agent] = field(default_factory=dict[str, Agent])

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.clock)
        self.bus.create(COMMANDS)
        self.keys = Keys((KEY,), self.bus.log_id)
        self.caller = Caller(
            bus=self.bus, keys=self.keys, clock=self.clock, region=REGION, uid=7, quotas=QUOTAS
        )

    def start(
        self, instance: str = "i-1", policy: Policy | None = None, secrets: Mapping[str, str] | None = None
    ) -> Agent:
        """Starts the agent of an instance, with the journal of its previous process if there was one."""
        end = self.bus.extents(COMMANDS)[REQUESTS].end
        journal = Journal(self.folder / instance / "journal.db", instance, self.bus.log_id, end)
        references = {name: Secret(written) for name, written in (secrets or {}).items()}
        agent = Agent(
            bus=self.bus,
            edge=Edge(self.bus),
            journal=journal,
            keys=self.keys,
            instance=Instance(instance, REGION, 9),
            policy=policy or Policy(),
            host=Host(references, journal.id, self.clock.now),
            clock=self.clock,
        )
        agent.recover()
        self.agents[instance] = agent
        return agent

    def ask(self, content: str, *instances: str, **parameters: str) -> Run:
        """Requests an immediate run on `instances`; default i-1."""
        (asked,) = self.caller.run(command(content), instances or ("i-1",), parameters=parameters)
        return asked

    def schedule(self, content: str, frequency: str = "rate(60s)") -> Run:
        """Requests scheduled runs on i-1."""
        (asked,) = self.caller.run(
            command(content, timeout=10),
            ("i-1",),
            parameters={},
            mode=RepeatMode.PERIOD,
            frequency=frequency,
        )
        return asked

    def crash(self, instance: str = "i-1") -> None:
        """Ends the agent as if it were killed, so that it writes nothing to the journal or the bus."""
        agent = self.agents.pop(instance)
        agent.abandon()
        agent.journal.close()

    def step(self, instance: str = "i-1") -> None:
        """Steps the agent until no run is left."""
        agent = self.agents[instance]
        deadline = time.monotonic() + 60
        agent.step(0)
        while agent.running() and time.monotonic() < deadline:
            agent.step(0.05)
        agent.step(0)

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close()
            agent.journal.close()

    def records(self, instance: str = "") -> list[ExecutionRecord]:
        """Returns all execution records, in order for each instance."""
        found = [check_execution(record.value) for record in all_records(self.bus, EXECUTIONS)]
        return [one for one in found if instance in {"", one.instance_id}]

    def final(self, instance: str = "") -> list[ExecutionRecord]:
        return [one for one in self.records(instance) if one.invocation_status.final]

    def command_record(self) -> CommandRecord:
        """Returns the only final record, which must be the record of a command."""
        (found,) = self.final()
        assert isinstance(found, CommandRecord)
        return found

    def file_record(self) -> FileRecord:
        """Returns the only final record, which must be the record of a file."""
        (found,) = self.final()
        assert isinstance(found, FileRecord)
        return found

    def outcome(self) -> tuple[RecordState, ErrorCode | None, str]:
        """Returns state, error code and error text of the only final record, which must be the record of a command."""
        record = self.command_record()
        return record.invocation_status, record.error_code, record.error_info or ""

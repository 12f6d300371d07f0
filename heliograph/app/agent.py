"""The process that carries out requests for one instance."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event

import structlog

from heliograph.app.deployment import Deployment
from producers.assistant.agent import Agent
from producers.assistant.caller import REQUESTS
from producers.assistant.journal import Journal
from producers.assistant.parameters import check_name
from producers.assistant.policy import Policy, check_allow
from producers.assistant.reporting import Instance
from producers.assistant.signing import Keys
from producers.assistant.task import Host
from producers.edge import Edge
from schemas.errors import BusError, InputError, JournalUnusable
from schemas.execution import ID
from schemas.secrets import Secret
from schemas.topics import COMMANDS

_STEP_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_log = structlog.get_logger()


def check_agent(instance: Instance, allow: Iterable[str]) -> None:
    """Raises InputError if the id or the region of the instance, or an entry of its allow list, is not valid."""
    for option, given in {"--instance-id": instance.id, "--region": instance.region}.items():
        if not re.fullmatch(ID, given):
            raise InputError(f"{option} {given!r}: expected letters, digits, '.', '_' or '-'")
    for entry in allow:
        check_allow(entry)


def build_agent(
    deployment: Deployment,
    keys: Keys,
    instance: Instance,
    policy: Policy,
    *,
    secrets: Mapping[str, str],
    folder: Path,
) -> Agent:
    """Builds the agent of an instance, with its journal in `folder`. `secrets`: references to secrets, by name.

    Raises InputError, BusError, JournalUnusable.
    """
    references = {name: Secret(written) for name, written in secrets.items()}
    for name, reference in references.items():
        check_name("--secret", name)
        if not reference.is_reference:
            raise InputError(f"--secret {name}: expected a reference, env:NAME or file:PATH")
    bus = deployment.bus
    bus.create(COMMANDS)
    journal = Journal(folder / "journal.db", instance.id, bus.log_id, bus.extents(COMMANDS)[REQUESTS].end)
    return Agent(
        bus=bus,
        edge=Edge(bus, deployment.config.events.topics),
        journal=journal,
        keys=keys,
        instance=instance,
        policy=policy,
        host=Host(references, journal.id, deployment.clock.now),
        clock=deployment.clock,
    )


def serve_agent(agent: Agent, stopping: Event) -> None:
    """Carries out requests until `stopping` is set; tries again after a failure of the bus or the disk.

    Never calls `stopping.wait`: a signal handler of this thread sets the event, and would deadlock on the lock of
    `wait`.
    """
    agent.recover()
    _log.info("the agent is ready", instance=agent.instance.id, region=agent.instance.region)
    while not stopping.is_set():
        try:
            agent.step(_STEP_SECONDS)
        except (BusError, JournalUnusable) as error:
            _log.warning("the agent failed and tries again", why=str(error))
            time.sleep(_RETRY_SECONDS)

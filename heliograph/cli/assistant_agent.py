"""`heliograph assistant agent` and `key`: who does what is asked for, and who may ask."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.assistant_caller import Region, User, keys_of, pairs
from heliograph.cli.output import open_deployment, say
from schemas.errors import BusError, InputError, JournalUnusable

if TYPE_CHECKING:
    from heliograph.app.deployment import Deployment
    from producers.assistant.agent import Agent
    from producers.assistant.policy import Policy
    from producers.assistant.reporting import Instance

_EVERY = 0.2
_AFTER_FAILURE = 1.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(agent)
    app.command()(key)


def agent(
    instance_id: Annotated[str, typer.Option("--instance-id", help="The instance that it stands for.")],
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="NAME", help="A command's name, sha256:DIGEST, or send-file; again."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME=REFERENCE", help="What {{secret:NAME}} stands for; again."),
    ] = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Run once for scheduled times that were missed.")
    ] = False,
    home: Annotated[Path | None, typer.Option("--home", metavar="DIR", help="Folder of its journal.")] = None,
) -> None:
    """Run commands and write files for one instance. Until SIGTERM or Ctrl-C.

    What it executes must be signed with a key of the deployment.
    """
    from producers.assistant.policy import Policy, check_allow
    from producers.assistant.reporting import Instance
    from schemas.execution import ID

    for option, given in {"--instance-id": instance_id, "--region": region}.items():
        if not re.fullmatch(ID, given):
            raise InputError(f"{option} {given!r}: expected letters, digits, '.', '_' or '-'")
    for one in allow or ():
        check_allow(one)
    policy = Policy(frozenset(allow or ()), catch_up=catch_up)
    stopping = threading.Event()
    with open_deployment() as deployment:
        folder = home or deployment.config.home / "agents" / instance_id
        made = build(deployment, Instance(instance_id, region, user), policy, secret or [], folder)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stopping.set())
        try:
            serve(made, stopping)
        finally:
            try:
                made.close()
            finally:
                made.journal.close()


def key() -> None:
    """Make the key with which requests are signed. Without one nothing can be asked for, and no agent starts."""
    from producers.assistant.signing import make_key

    with open_deployment() as deployment:
        reference = deployment.config.assistant_keys[0]
        where, _, path = reference.written.partition(":")
        if where != "file":
            raise InputError(f"assistant.keys: {reference} is no file; make that key yourself")
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = make_key(Path(path))
    say(
        f"wrote {path}; agents and callers on other machines need a copy"
        if made
        else f"{path} is there already"
    )


def build(
    deployment: Deployment, instance: Instance, policy: Policy, secrets: list[str], folder: Path
) -> Agent:
    """The agent of an instance, with its journal in `folder`. Raises InputError, BusError, JournalUnusable."""
    from producers.assistant.agent import Agent
    from producers.assistant.caller import REQUESTS
    from producers.assistant.journal import Journal
    from producers.assistant.parameters import check_name
    from producers.assistant.task import Host
    from producers.edge import Edge
    from schemas.secrets import Secret
    from schemas.topics import COMMANDS

    references = {name: Secret(written) for name, written in pairs("--secret", secrets).items()}
    for name, reference in references.items():
        check_name("--secret", name)
        if not reference.is_reference:
            raise InputError(f"--secret {name}: expected a reference, env:NAME or file:PATH")
    bus, keys = deployment.bus, keys_of(deployment)
    bus.create(COMMANDS)
    end = bus.extents(COMMANDS)[REQUESTS].end
    journal = Journal(folder / "journal.db", instance.id, bus.log_id, end)
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


def serve(made: Agent, stopping: threading.Event) -> None:
    """Work until told to stop; a log or a disk that fails is waited for. Nothing here waits for `stopping`: it is set
    by a handler of signals in this thread, which would wait for ever for a lock that the thread holds."""
    import structlog

    log = structlog.get_logger()
    made.recover()
    log.info("the agent is ready", instance=made.instance.id, region=made.instance.region)
    while not stopping.is_set():
        try:
            made.step(_EVERY)
        except (BusError, JournalUnusable) as error:
            log.warning("the agent cannot go on and tries again", why=str(error))
            time.sleep(_AFTER_FAILURE)

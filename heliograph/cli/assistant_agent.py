"""`heliograph assistant agent` and `key`: the process that carries out requests, and the key that signs them."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.assistant_options import REGION, USER, Region, User, read_pairs
from heliograph.cli.output import open_deployment, say

if TYPE_CHECKING:
    from producers.assistant.agent import Agent


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(agent)
    app.command()(key)


def agent(
    instance_id: Annotated[
        str, typer.Option("--instance-id", help="Id of the instance that the agent serves; required.")
    ],
    region: Region = REGION,
    user: User = USER,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NAME",
            help="Allow only this: a command's name, sha256:DIGEST of a script, or send-file; repeatable.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret", metavar="NAME=REFERENCE", help="Value for {{secret:NAME}} in scripts; repeatable."
        ),
    ] = None,
    catch_up: Annotated[
        bool,
        typer.Option("--catch-up", help="Run a command once for all scheduled times that the agent missed."),
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", metavar="DIR", help="Folder of the agent's journal; default agents/ID in the home."
        ),
    ] = None,
) -> None:
    """Run commands and write files for one instance, until SIGTERM or Ctrl-C.

    The agent carries out only requests that a key of the deployment has signed.
    """
    from heliograph.app.agent import build_agent, check_agent
    from heliograph.operations.assistant import read_keys
    from producers.assistant.policy import Policy
    from producers.assistant.reporting import Instance

    instance = Instance(instance_id, region, user)
    check_agent(instance, allow or ())
    policy = Policy(frozenset(allow or ()), catch_up=catch_up)
    with open_deployment() as deployment:
        made = build_agent(
            deployment,
            read_keys(deployment),
            instance,
            policy,
            secrets=read_pairs("--secret", secret or []),
            folder=home or deployment.config.home / "agents" / instance_id,
        )
        _serve_until_stopped(made)


def key() -> None:
    """Create the key that signs requests. Without a key, requests are refused and no agent starts."""
    from heliograph.operations.assistant import make_signing_key

    with open_deployment() as deployment:
        path, made = make_signing_key(deployment)
    say(
        f"wrote {path}; agents and callers on other machines need a copy"
        if made
        else f"{path} exists and was not changed"
    )


def _serve_until_stopped(agent: Agent) -> None:
    """Serves until SIGTERM or Ctrl-C, then closes the agent and its journal."""
    from heliograph.app.agent import serve_agent

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    try:
        serve_agent(agent, stopping)
    finally:
        try:
            agent.close()
        finally:
            agent.journal.close()

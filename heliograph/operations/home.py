"""Creates the home of a deployment, with a configuration file in which every key is commented out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from heliograph.app.config import FILE_NAME
from heliograph.app.deployment import Deployment
from heliograph.app.settings_reference import starter


class Home(NamedTuple):
    """A home that is ready to use.

    `file`: its configuration file; `written`: True if this call wrote the file; `bus_url`: URL of its bus without
    options.
    """

    file: Path
    written: bool
    log_id: str
    bus_url: str


def make_home(deployment: Deployment) -> Home:
    """Creates the home, its configuration file and its bus; keeps each that exists already.

    Raises BusError, OSError.
    """
    home = deployment.config.home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = home / FILE_NAME
    written = not file.exists()
    if written:
        file.touch(mode=0o600)
        file.write_text(starter())
    return Home(file, written, deployment.bus.log_id, deployment.config.bus_url.partition("?")[0])

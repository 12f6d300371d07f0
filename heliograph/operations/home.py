"""The home of a deployment: makes it, with a configuration file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from heliograph.app.config import FILE_NAME
from heliograph.app.deployment import Deployment
from heliograph.app.settings_reference import starter


class Home(NamedTuple):
    """A home that is ready. `file`: its configuration file, `written` if it was not there; `bus_url`: without options."""

    file: Path
    written: bool
    log_id: str
    bus_url: str


def make_home(deployment: Deployment) -> Home:
    """Makes the home, its configuration file and its bus; leaves what is there as it is. Raises BusError, OSError."""
    home = deployment.config.home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = home / FILE_NAME
    written = not file.exists()
    if written:
        file.touch(mode=0o600)
        file.write_text(starter())
    return Home(file, written, deployment.bus.log_id, deployment.config.bus_url.partition("?")[0])

"""The configuration: one TOML file, the environment over it, checked whole.

`HELIOGRAPH_HOME` is the folder of all data, `HELIOGRAPH_CONFIG` the file (default: `heliograph.toml` in the home, if
there is one), `HELIOGRAPH_<SECTION>_<KEY>` a value over the file's; a list is comma-separated there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from archiver.policy import ArchivePolicy
from schemas.errors import InvalidConfiguration

PREFIX = "HELIOGRAPH_"
FILE_NAME = "heliograph.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BusSection(_Section):
    """`[bus]`: the log. `retention_hours`: how long records stay that every group has finished; configuration topics
    stay for ever. `reserve_mb`: below this much free disk space producers are refused."""

    url: str = ""
    partitions: int = Field(default=4, ge=1, le=1000)
    retention_hours: float = Field(default=168.0, gt=0)
    reserve_mb: int = Field(default=256, ge=0)


class EventsSection(_Section):
    """`[events]`. `topics`: names or patterns beyond ECS that get a topic `events.<product>.<type>` of their own."""

    topics: tuple[str, ...] = ()


class DeliverySection(_Section):
    """`[delivery]`. `allow_networks`: private networks (CIDR) that callbacks may reach. `function_modules`: modules
    that targets of kind `python` may name; `function_path`: the folder they are found in. `objects`: URL of the store
    that targets of kind `object` write to. `logs`: folder of the local log store."""

    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    function_modules: tuple[str, ...] = ()
    function_path: Path | None = None
    objects: str = ""
    logs: Path | None = None


class ArchiveSection(_Section):
    """`[archive]`: where segments go, and when a segment is closed: at so many records, so many MiB, so many seconds
    after its first record, or so many seconds without a new one."""

    url: str = ""
    segment_records: int = Field(default=ArchivePolicy.max_records, ge=1)
    segment_mb: float = Field(default=ArchivePolicy.max_bytes / 2**20, gt=0, le=64)
    segment_seconds: float = Field(default=ArchivePolicy.max_age, gt=0)
    idle_seconds: float = Field(default=ArchivePolicy.max_idle, gt=0)

    @property
    def policy(self) -> ArchivePolicy:
        """When a segment is closed."""
        return ArchivePolicy(
            max_bytes=int(self.segment_mb * 2**20),
            max_records=self.segment_records,
            max_age=self.segment_seconds,
            max_idle=self.idle_seconds,
        )


class LogSection(_Section):
    """`[log]`. `format` auto: lines for people on a terminal, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Config(_Section):
    """Everything, with defaults that hold without any file."""

    home: Path
    bus: BusSection = BusSection()
    events: EventsSection = EventsSection()
    delivery: DeliverySection = DeliverySection()
    archive: ArchiveSection = ArchiveSection()
    log: LogSection = LogSection()

    @property
    def bus_url(self) -> str:
        """URL of the log; by default the SQLite file under the home."""
        return self.bus.url or f"sqlite://{quote(str(self.home / 'bus.db'))}"

    @property
    def archive_url(self) -> str:
        """URL of the archive; by default a folder under the home."""
        return self.archive.url or f"file://{quote(str(self.home / 'archive'))}"

    @property
    def objects_url(self) -> str:
        """URL of the store that targets of kind `object` write to."""
        return self.delivery.objects or f"file://{quote(str(self.home / 'objects'))}"

    @property
    def logs_folder(self) -> Path:
        """Folder of the local log store."""
        return self.delivery.logs or self.home / "logs"


def load(environment: Mapping[str, str]) -> Config:
    """Read file and environment. Raises InvalidConfiguration with every problem, each naming its key."""
    home = (
        Path(environment.get("HELIOGRAPH_HOME") or platformdirs.user_data_dir("heliograph"))
        .expanduser()
        .absolute()
    )
    values = _read_file(home, environment.get("HELIOGRAPH_CONFIG"))
    problems = _overlay(values, environment)
    try:
        config = Config.model_validate({**values, "home": home})
    except ValidationError as error:
        problems += [_line(detail) for detail in error.errors()]
    else:
        if not problems:
            return config
    raise InvalidConfiguration(problems)


def settings() -> list[tuple[str, str, str]]:
    """Every setting as (section.key, environment name, default), for documentation and its test."""
    rows: list[tuple[str, str, str]] = []
    for section, field in Config.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, _Section):
            for key, inner in model.model_fields.items():
                rows.append((f"{section}.{key}", f"{PREFIX}{section}_{key}".upper(), str(inner.default)))
    return rows


def _read_file(home: Path, named: str | None) -> dict[str, Any]:
    path = Path(named) if named else home / FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        if named:
            raise InvalidConfiguration([f"HELIOGRAPH_CONFIG: no file {path}"]) from None
        return {}
    except OSError as error:
        raise InvalidConfiguration([f"{path}: {error.strerror}"]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration([f"{path}: not TOML: {error}"]) from None


def _overlay(values: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Put the environment's values over the file's; returns a line for each name that is no setting."""
    known = {name: setting for setting, name, _ in settings()}
    problems: list[str] = []
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in {"HELIOGRAPH_HOME", "HELIOGRAPH_CONFIG"}:
            continue
        if name not in known:
            if name != "HELIOGRAPH_REQUIRE_SERVICES":
                problems.append(f"{name}: no such setting; known: {', '.join(sorted(known))}")
            continue
        section, key = known[name].split(".")
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _parse(section, key, text)
    return problems


def _parse(section: str, key: str, text: str) -> Any:  # noqa: ANN401 - what a setting holds
    model = Config.model_fields[section].annotation
    assert isinstance(model, type)  # noqa: S101 - narrows for the type checker
    assert issubclass(model, _Section)  # noqa: S101
    if isinstance(model.model_fields[key].default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _line(detail: ErrorDetails) -> str:
    keys = [str(part) for part in detail["loc"] if not (isinstance(part, str) and part.startswith("IP"))]
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "no such setting"
    return f"{'.'.join(keys)}: {message}"

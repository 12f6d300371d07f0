"""The configuration: one TOML file, the environment over it, checked whole.

`HELIOGRAPH_HOME` is the folder of all data, `HELIOGRAPH_CONFIG` the file (default: `heliograph.toml` in the home, if
there is one), `HELIOGRAPH_<SECTION>_<KEY>` a value over the file's; a list is comma-separated there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from archiver.write.policy import ArchivePolicy
from router.duplicates import WINDOW
from schemas.errors import InvalidConfiguration
from schemas.problems import problems, suggestion
from schemas.secrets import Secret
from schemas.topics import NAMESPACE

PREFIX = "HELIOGRAPH_"
FILE_NAME = "heliograph.toml"
_NO_SETTINGS = {"HELIOGRAPH_HOME", "HELIOGRAPH_CONFIG", "HELIOGRAPH_REQUIRE_SERVICES"}


def _network(written: object) -> IPv4Network | IPv6Network:
    if isinstance(written, IPv4Network | IPv6Network):
        return written
    try:
        return ip_network(str(written))
    except ValueError as error:
        raise ValueError(f"{error}; write a network, as in 10.0.0.0/8") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
"""A range of addresses in CIDR form."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BusSection(_Section):
    """`[bus]`: the log. `partitions`: of topics made from now on; without it 4, on Kafka 12. `namespace`: what the
    names of topics and groups begin with on Kafka, where a `namespace=` of the URL says the same; elsewhere it has no
    meaning. `retention_hours`: how long records stay that every group has finished, on Kafka how long they stay at
    all; configuration topics stay for ever. `reserve_mb`: below this much free disk space producers are refused."""

    url: str = ""
    namespace: str = Field(default=NAMESPACE, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    partitions: int | None = Field(default=None, ge=1, le=1000)
    retention_hours: float = Field(default=168.0, gt=0)
    reserve_mb: int = Field(default=256, ge=0)


class EventsSection(_Section):
    """`[events]`. `topics`: names or patterns beyond ECS that get a topic `events.<product>.<type>` of their own.
    `duplicate_window`: seconds in which an event with the same bytes as one before it is not routed; 0 routes all."""

    topics: tuple[str, ...] = ()
    duplicate_window: float = Field(default=WINDOW, ge=0, le=86_400)


class DeliverySection(_Section):
    """`[delivery]`. `allow_networks`: private networks (CIDR) that callbacks may reach. `function_modules`: modules
    that targets of kind `python` may name; `function_path`: the folder they are found in. `objects`: URL of the store
    that targets of kind `object` write to. `logs`: folder of the local log store."""

    allow_networks: tuple[Network, ...] = ()
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


class AssistantSection(_Section):
    """`[assistant]`. `keys`: references to the keys of requests, the first of which signs and all of which verify.
    `kept_commands`: how many commands and versions of them a region may keep. `daily_runs`: how many runs and files
    may be asked for in a region on one day (UTC)."""

    keys: tuple[Secret, ...] = ()
    kept_commands: int = Field(default=100, ge=0)
    daily_runs: int = Field(default=5000, ge=0)


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
    assistant: AssistantSection = AssistantSection()
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
    def assistant_keys(self) -> tuple[Secret, ...]:
        """References to the keys of requests; by default the file that `heliograph assistant key` makes."""
        return self.assistant.keys or (Secret(f"file:{self.home / 'assistant.key'}"),)

    @property
    def logs_folder(self) -> Path:
        """Folder of the local log store."""
        return self.delivery.logs or self.home / "logs"


def load(environment: Mapping[str, str]) -> Config:
    """Read file and environment. Raises InvalidConfiguration with every problem, each naming its key."""
    home = _home(environment)
    values = _read_file(home, environment.get("HELIOGRAPH_CONFIG"))
    unknown, named = _overlay(values, environment)
    if "home" in values:
        unknown.append("home: is not for the file; set HELIOGRAPH_HOME")
    try:
        config = Config.model_validate({**values, "home": home})
    except ValidationError as error:
        raise InvalidConfiguration([*unknown, *_lines(error, named)]) from None
    if unknown:
        raise InvalidConfiguration(unknown)
    return config


def settings() -> list[tuple[str, str, str]]:
    """Every setting as (section.key, environment name, default), for documentation and its test."""
    rows: list[tuple[str, str, str]] = []
    for section, field in Config.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, _Section):
            for key, inner in model.model_fields.items():
                rows.append((f"{section}.{key}", f"{PREFIX}{section}_{key}".upper(), str(inner.default)))
    return rows


def _home(environment: Mapping[str, str]) -> Path:
    named = environment.get("HELIOGRAPH_HOME") or platformdirs.user_data_dir("heliograph")
    home = Path(named).expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise InvalidConfiguration([f"HELIOGRAPH_HOME: {home} is not a folder; name one"])
    return home


def _read_file(home: Path, named: str | None) -> dict[str, Any]:
    path = Path(named) if named else home / FILE_NAME
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidConfiguration([f"HELIOGRAPH_CONFIG: no file {path}"]) from None
        return {}
    except OSError as error:
        raise InvalidConfiguration([f"{path}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfiguration([f"{path}: not TOML: {error}"]) from None


def _overlay(values: dict[str, Any], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Put the environment's values over the file's. Returns a line for each name that is no setting, and which
    settings now come from which name."""
    known = {name: setting for setting, name, _ in settings()}
    unknown: list[str] = []
    named: dict[str, str] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in _NO_SETTINGS:
            continue
        if name not in known:
            unknown.append(f"{name}: no such setting{suggestion(name, tuple(known))}")
            continue
        section, key = known[name].split(".")
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _parse(section, key, text)
            named[known[name]] = name
    return unknown, named


def _parse(section: str, key: str, text: str) -> Any:  # noqa: ANN401 - what a setting holds
    model = Config.model_fields[section].annotation
    assert isinstance(model, type)  # noqa: S101 - narrows for the type checker
    assert issubclass(model, _Section)  # noqa: S101
    if isinstance(model.model_fields[key].default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _lines(error: ValidationError, named: Mapping[str, str]) -> list[str]:
    """Problems by their keys in the file, or by the name in the environment where the value comes from there."""
    found = (line.partition(": ") for line in problems(error, Config))
    return [f"{named.get(key, key)}: {problem}" for key, _, problem in found]

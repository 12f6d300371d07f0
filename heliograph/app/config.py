"""The configuration: a TOML file and the environment, which overrides the file; both are checked together.

`HELIOGRAPH_HOME` is the folder of all data, `HELIOGRAPH_CONFIG` the file (default: `heliograph.toml` in the home, if
there is one), `HELIOGRAPH_<SECTION>_<KEY>` a value that overrides the file's; there, commas separate the items of a
list.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
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
_UNWRITTEN = ("", (), None)
"""Defaults that the documentation does not show: they depend on the home, or mean none."""
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
    """Topics: the bus that holds them, and the time that their records stay."""

    url: str = Field(
        default="",
        description="URL of the bus: `sqlite:///absolute/path/bus.db`, `kafka://host:port,host:port` or `memory://`;"
        " by default `bus.db` in the home",
        examples=["kafka://host:9092,host:9092"],
    )
    namespace: str = Field(
        default=NAMESPACE,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="prefix of the names of topics and groups on Kafka; without effect elsewhere",
    )
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="partitions of topics that are created from now on; by default 4, on Kafka 12. Configuration topics"
        " and `routing` have 1",
        examples=[4],
    )
    retention_hours: float = Field(
        default=168.0,
        gt=0,
        description="hours that records stay once every group has finished them; on Kafka hours that they stay at all."
        " Configuration topics stay for ever",
    )
    reserve_mb: int = Field(
        default=256,
        ge=0,
        description="MiB of free disk below which the embedded bus refuses producers; 0 never refuses",
    )


class EventsSection(_Section):
    """Events: their topics and their duplicates."""

    topics: tuple[str, ...] = Field(
        default=(),
        description="names or `*` patterns of event topics beside the four of ECS; other events go to `events.other`",
        examples=[["events.rds.*"]],
    )
    duplicate_window: float = Field(
        default=WINDOW,
        ge=0,
        le=86_400,
        description="seconds in which an event with the same bytes as an earlier one is a duplicate and not routed; at most"
        " 86400, 0 routes all",
    )


class DeliverySection(_Section):
    """Deliveries: the addresses and modules that sinks may use, and the folders of local ones."""

    allow_networks: tuple[Network, ...] = Field(
        default=(),
        description="networks (CIDR) that callbacks may reach although they are private, loopback or otherwise special",
        examples=[["127.0.0.0/8"]],
    )
    function_modules: tuple[str, ...] = Field(
        default=(),
        description="modules that targets of kind `python` may name; `a.*` is every module below `a`",
        examples=[["handlers"]],
    )
    function_path: Path | None = Field(
        default=None,
        description="folder in which these modules are looked for first",
        examples=["/etc/heliograph/functions"],
    )
    objects: str = Field(
        default="",
        description="URL of the object store of targets of kind `object`; by default `objects` in the home",
        examples=["file:///var/lib/heliograph/objects"],
    )
    logs: Path | None = Field(
        default=None,
        description="folder of the local log store; by default `logs` in the home",
        examples=["/var/lib/heliograph/logs"],
    )


class ArchiveSection(_Section):
    """Archive: the store of segments, and the limits at which one is closed."""

    url: str = Field(
        default="",
        description="URL of the object store of the archive; by default `archive` in the home",
        examples=["file:///var/lib/heliograph/archive"],
    )
    segment_records: int = Field(
        default=ArchivePolicy.max_records, ge=1, description="records at which a segment is closed"
    )
    segment_mb: float = Field(
        default=ArchivePolicy.max_bytes / 2**20,
        gt=0,
        le=64,
        description="MiB before compression at which a segment is closed; at most 64",
    )
    segment_seconds: float = Field(
        default=ArchivePolicy.max_age,
        gt=0,
        description="seconds after its first record at which a segment is closed",
    )
    idle_seconds: float = Field(
        default=ArchivePolicy.max_idle,
        gt=0,
        description="seconds without a new record at which a segment is closed",
    )

    @property
    def policy(self) -> ArchivePolicy:
        """Returns the limits at which a segment is closed."""
        return ArchivePolicy(
            max_bytes=int(self.segment_mb * 2**20),
            max_records=self.segment_records,
            max_age=self.segment_seconds,
            max_idle=self.idle_seconds,
        )


class AssistantSection(_Section):
    """Commands and files for instances: the keys that sign requests, and the quotas of a region."""

    keys: tuple[Secret, ...] = Field(
        default=(),
        description="references to the keys of requests: the first signs, all verify; by default `assistant.key` in the home",
        examples=[["file:/var/lib/heliograph/assistant.key"]],
    )
    kept_commands: int = Field(
        default=100, ge=0, description="commands and versions of commands that a region may keep"
    )
    daily_runs: int = Field(
        default=5000, ge=0, description="runs and files that may be asked for in a region on one day (UTC)"
    )


class LogSection(_Section):
    """Log lines of the processes."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is written: `debug`, `info`, `warning` or `error`"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="`console`, `json` or `auto`, which is `console` on a terminal and `json` elsewhere",
    )


class Config(_Section):
    """The whole configuration. Every section has defaults, so that no file is needed."""

    home: Path
    bus: BusSection = BusSection()
    events: EventsSection = EventsSection()
    delivery: DeliverySection = DeliverySection()
    archive: ArchiveSection = ArchiveSection()
    assistant: AssistantSection = AssistantSection()
    log: LogSection = LogSection()

    @property
    def bus_url(self) -> str:
        """Returns the URL of the bus; by default the SQLite file in the home."""
        return self.bus.url or f"sqlite://{quote(str(self.home / 'bus.db'))}"

    @property
    def archive_url(self) -> str:
        """Returns the URL of the archive; by default a folder in the home."""
        return self.archive.url or f"file://{quote(str(self.home / 'archive'))}"

    @property
    def objects_url(self) -> str:
        """Returns the URL of the store that targets of kind `object` write to."""
        return self.delivery.objects or f"file://{quote(str(self.home / 'objects'))}"

    @property
    def assistant_keys(self) -> tuple[Secret, ...]:
        """Returns references to the keys of requests; by default the file that `heliograph assistant key` makes."""
        return self.assistant.keys or (Secret(f"file:{self.home / 'assistant.key'}"),)

    @property
    def logs_folder(self) -> Path:
        """Returns the folder of the local log store."""
        return self.delivery.logs or self.home / "logs"


def load(environment: Mapping[str, str]) -> Config:
    """Reads the configuration from file and environment. Raises InvalidConfiguration with every problem and its key."""
    home = _home(environment)
    values = _read_file(home, environment.get("HELIOGRAPH_CONFIG"))
    unknown, named = _overlay(values, environment)
    if "home" in values:
        unknown.append("home: is not a key of the file; set HELIOGRAPH_HOME")
    try:
        config = Config.model_validate({**values, "home": home})
    except ValidationError as error:
        raise InvalidConfiguration([*unknown, *_lines(error, named)]) from None
    if unknown:
        raise InvalidConfiguration(unknown)
    return config


class Setting(NamedTuple):
    """A key of the configuration.

    `environment`: its name in the environment. `default`: empty if it depends on the home or there is none. `example`:
    a value for the starter file.
    """

    section: str
    key: str
    environment: str
    default: str
    example: object
    description: str

    @property
    def name(self) -> str:
        """The section and the key: `bus.url`."""
        return f"{self.section}.{self.key}"


def settings() -> list[Setting]:
    """Lists every setting, in the order of the file."""
    return [
        Setting(
            section,
            key,
            f"{PREFIX}{section}_{key}".upper(),
            "" if field.default in _UNWRITTEN else str(field.default),
            (field.examples or [field.default])[0],
            field.description or "",
        )
        for section, model in sections().items()
        for key, field in model.model_fields.items()
    ]


def sections() -> dict[str, type[BaseModel]]:
    """Returns the model of each section of the file."""
    found = {name: field.annotation for name, field in Config.model_fields.items()}
    return {
        name: model
        for name, model in found.items()
        if isinstance(model, type) and issubclass(model, _Section)
    }


def _home(environment: Mapping[str, str]) -> Path:
    named = environment.get("HELIOGRAPH_HOME") or platformdirs.user_data_dir("heliograph")
    home = Path(named).expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise InvalidConfiguration([f"HELIOGRAPH_HOME: {home} is not a folder; set it to a folder"])
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
    """Replaces the file's values in `values` by those of the environment.

    Returns a line for each unknown name, and the name in the environment of each setting that was replaced.
    """
    known = {setting.environment: setting for setting in settings()}
    unknown: list[str] = []
    named: dict[str, str] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in _NO_SETTINGS:
            continue
        if name not in known:
            unknown.append(f"{name}: no such setting{suggestion(name, tuple(known))}")
            continue
        setting = known[name]
        table = values.setdefault(setting.section, {})
        if isinstance(table, dict):
            table[setting.key] = _parse(setting, text)
            named[setting.name] = name
    return unknown, named


def _parse(setting: Setting, text: str) -> str | list[str]:
    """Splits the text of a list at its commas; returns other texts unchanged, which the models read."""
    if isinstance(sections()[setting.section].model_fields[setting.key].default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _lines(error: ValidationError, named: Mapping[str, str]) -> list[str]:
    """Returns a line for each problem, with its key in the file, or its name in the environment if set there."""
    found = (line.partition(": ") for line in problems(error, Config))
    return [f"{named.get(key, key)}: {problem}" for key, _, problem in found]

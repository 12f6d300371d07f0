"""The configuration: defaults, file, environment over file, and every problem at once."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from heliograph.app.config import FILE_NAME, Config, load, settings
from heliograph.app.settings_reference import starter
from schemas.errors import InvalidConfiguration


def loaded(home: Path, text: str = "", **environment: str) -> Config:
    (home / FILE_NAME).write_text(text)
    return load({"HELIOGRAPH_HOME": str(home), **environment})


def problems(home: Path, text: str = "", **environment: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        loaded(home, text, **environment)
    return list(caught.value.problems)


def test_without_a_file_all_data_is_in_the_home(tmp_path: Path) -> None:
    config = load({"HELIOGRAPH_HOME": str(tmp_path)})
    assert config == Config(home=tmp_path)
    assert config.bus_url == f"sqlite://{tmp_path}/bus.db"
    assert config.archive_url == f"file://{tmp_path}/archive"
    assert config.objects_url == f"file://{tmp_path}/objects"
    assert config.logs_folder == tmp_path / "logs"


def test_odd_characters_of_the_home_are_quoted_in_urls(tmp_path: Path) -> None:
    assert (
        load({"HELIOGRAPH_HOME": f"{tmp_path}/a b?#%"}).bus_url
        == f"sqlite://{tmp_path}/a%20b%3F%23%25/bus.db"
    )


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    text = '[bus]\npartitions = 2\nreserve_mb = 7\n[delivery]\nallow_networks = ["10.0.0.0/8"]\n'
    config = loaded(
        tmp_path,
        text,
        HELIOGRAPH_BUS_PARTITIONS="9",
        HELIOGRAPH_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8, ::1/128",
    )
    assert (config.bus.partitions, config.bus.reserve_mb) == (9, 7)
    assert config.delivery.allow_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def test_an_invalid_namespace_is_refused(tmp_path: Path) -> None:
    assert loaded(tmp_path, '[bus]\nnamespace = "site-a"').bus.namespace == "site-a"
    (line,) = problems(tmp_path, '[bus]\nnamespace = "a b"')
    assert line.startswith("bus.namespace: ")


def test_a_file_outside_the_home_is_named_in_the_environment(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[log]\nlevel = 'debug'\n")
    assert loaded(tmp_path, "[log]\nlevel = 'error'", HELIOGRAPH_CONFIG=str(other)).log.level == "debug"
    assert problems(tmp_path, HELIOGRAPH_CONFIG="/nope") == ["HELIOGRAPH_CONFIG: no file /nope"]


def test_every_problem_is_listed_by_its_key(tmp_path: Path) -> None:
    text = """
    home = "x"
    log = 3
    [bus]
    partitions = 0
    retention = 1
    [cook]
    [delivery]
    allow_networks = ["x"]
    """
    found = problems(tmp_path, text, HELIOGRAPH_EVENTS_TOPIC="a", HELIOGRAPH_BUS_RESERVE_MB="many")
    assert [line.partition(":")[0] for line in found] == [
        "HELIOGRAPH_EVENTS_TOPIC",
        "home",
        "bus.partitions",
        "HELIOGRAPH_BUS_RESERVE_MB",
        "bus.retention",
        "delivery.allow_networks",
        "log",
        "cook",
    ]
    assert found[0].endswith("did you mean HELIOGRAPH_EVENTS_TOPICS?")
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize("text", ["x = [", "\x00"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = problems(tmp_path, text)
    assert line.startswith(f"{tmp_path / FILE_NAME}: not TOML")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfiguration, match="not TOML"):
        load({"HELIOGRAPH_HOME": str(tmp_path)})


def test_a_home_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfiguration, match="is not a folder"):
        load({"HELIOGRAPH_HOME": str(tmp_path / "file")})


def test_every_setting_can_be_set_in_the_environment(tmp_path: Path) -> None:
    assert ("bus.partitions", "HELIOGRAPH_BUS_PARTITIONS") in {
        (one.name, one.environment) for one in settings()
    }
    values = {"url": "memory://", "level": "debug", "format": "json", "allow_networks": "::1/128"}
    for setting in settings():
        value = values.get(setting.key, setting.default or "1")
        assert loaded(tmp_path, **{setting.environment: value})


def test_the_starter_file_holds_every_setting_and_loads_with_each_of_them(tmp_path: Path) -> None:
    text = starter()
    (tmp_path / "heliograph.toml").write_text(re.sub(r"(?m)^# (\w+ = )", r"\1", text))
    config = load({"HELIOGRAPH_HOME": str(tmp_path)})
    written = config.model_dump(exclude_unset=True)
    assert {f"{section}.{key}" for section in written if section != "home" for key in written[section]} == {
        setting.name for setting in settings()
    }
    (tmp_path / "heliograph.toml").write_text(text)
    assert load({"HELIOGRAPH_HOME": str(tmp_path)}) == Config(home=tmp_path)

"""The parts of a deployment: opened at first use and closed together; errors of URLs name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.app.roles import ROLES, roles
from schemas.errors import BusDamaged, InputError, InvalidConfiguration


def deployment(home: Path, **environment: str) -> Deployment:
    return Deployment(load({"HELIOGRAPH_HOME": str(home / "home"), **environment}))


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    with deployment(tmp_path):
        pass
    assert not (tmp_path / "home").exists()


def test_parts_are_opened_once_and_given_to_the_sinks(tmp_path: Path) -> None:
    with deployment(tmp_path, HELIOGRAPH_DELIVERY_FUNCTION_MODULES="a,b").open() as parts:
        assert parts.bus is parts.bus
        context = parts.sink_context
        assert (context.bus, context.objects, context.logs) == (
            parts.bus,
            parts.objects,
            tmp_path / "home" / "logs",
        )
        assert context.function_modules == ("a", "b")


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("HELIOGRAPH_BUS_URL", "bus.url"),
        ("HELIOGRAPH_ARCHIVE_URL", "archive.url"),
        ("HELIOGRAPH_DELIVERY_OBJECTS", "delivery.objects"),
    ],
)
def test_a_url_of_an_unknown_scheme_is_refused_by_its_setting(
    tmp_path: Path, name: str, setting: str
) -> None:
    with (
        pytest.raises(InvalidConfiguration, match=setting),
        deployment(tmp_path, **{name: "tape://x"}) as parts,
    ):
        parts.open()


def test_opening_a_damaged_bus_fails(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bus.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(BusDamaged), deployment(tmp_path) as parts:
        parts.open()


def test_roles_are_built_by_name(tmp_path: Path) -> None:
    with deployment(tmp_path, HELIOGRAPH_BUS_URL="memory://") as parts:
        assert set(roles(parts)) == {"router", "executions", "deliverer", "wheel", "archiver"}
        for name, build in roles(parts, ["archiver", "deliverer"]).items():
            role = build()
            assert role.name == name
            role.close()
        with pytest.raises(InputError, match="known are router, deliverer, archiver"):
            roles(parts, ["cook"])
    assert set(ROLES["deliverer"]) == {"deliverer", "wheel"}

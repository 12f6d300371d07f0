"""Imports follow the layer table of docs/architecture.md; sizes and names of modules stay within bounds."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("archiver", "heliograph", "producers", "router", "schemas", "sinks")

ENGINE = frozenset(
    {"schemas", "producers", "router", "sinks", "archiver", "heliograph.bus", "heliograph.store"}
)
BEHIND_THE_DOORS = ENGINE | {
    "heliograph.app",
    "heliograph.diagnose",
    "heliograph.operations",
    "heliograph.testing",
}

MAY_IMPORT: dict[str, frozenset[str]] = {
    "schemas": frozenset(),
    "heliograph.bus": frozenset({"schemas"}),
    "heliograph.store": frozenset({"schemas"}),
    "producers": frozenset({"schemas", "heliograph.bus"}),
    "sinks": frozenset({"schemas", "heliograph.bus", "heliograph.store"}),
    "router": frozenset({"schemas", "sinks", "heliograph.bus"}),
    "archiver": frozenset({"schemas", "heliograph.bus", "heliograph.store"}),
    "heliograph.app": ENGINE,
    "heliograph.diagnose": ENGINE | {"heliograph.app"},
    "heliograph.operations": ENGINE | {"heliograph.app", "heliograph.diagnose"},
    "heliograph.testing": frozenset({"schemas"}),
    "heliograph.cli": BEHIND_THE_DOORS | {"heliograph.demo", "heliograph.chaos"},
    "heliograph.demo": BEHIND_THE_DOORS,
    "heliograph.chaos": BEHIND_THE_DOORS | {"heliograph.demo"},
    "heliograph": frozenset({"heliograph.cli"}),
}

ARCHIVER: dict[str, frozenset[str]] = {
    "archiver.format": frozenset(),
    "archiver.write": frozenset({"archiver.format"}),
    "archiver.read": frozenset({"archiver.format", "archiver.write"}),
    "archiver.maintain": frozenset({"archiver.format", "archiver.write", "archiver.read"}),
}


def layer_of(module: str) -> str:
    """Returns the row of the table that a module belongs to."""
    return max((row for row in MAY_IMPORT if f"{module}.".startswith(f"{row}.")), key=len)


def imports_of(path: Path) -> set[str]:
    """Returns our modules that a file imports, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] in ROOMS}


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    allowed = MAY_IMPORT[layer] | {layer}
    wrong = {name for name in imports_of(path) if layer_of(name) not in allowed}
    assert not wrong, f"{layer} may not import {sorted(wrong)}"


@pytest.mark.parametrize("folder", ARCHIVER)
def test_a_folder_of_the_archiver_imports_only_those_below_it(folder: str) -> None:
    for path in (ROOT / folder.replace(".", "/")).glob("*.py"):
        found = {".".join(name.split(".")[:2]) for name in imports_of(path) if name.startswith("archiver")}
        assert found <= ARCHIVER[folder] | {folder}, path


def test_the_table_lists_every_package() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found - {"tests", "benchmarks"} == set(ROOMS)


def test_the_package_heliograph_is_empty_so_that_bus_and_store_load_nothing_else() -> None:
    assert (ROOT / "heliograph" / "__init__.py").read_text() == ""


def test_the_bus_knows_no_role_and_no_home() -> None:
    for path in sorted((ROOT / "heliograph" / "bus").rglob("*.py")):
        named = re.findall(r"\b(?:router|deliverer|archiver|wheel|home)\b", path.read_text(), re.IGNORECASE)
        assert not named, f"{path} names {named}"


def test_files_have_at_most_500_lines_and_functions_60() -> None:
    for path in modules():
        lines = len(path.read_text().splitlines())
        assert lines <= 500, f"{path}: {lines} lines"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_no_room_has_the_name_of_a_module_of_the_standard_library() -> None:
    assert not set(ROOMS) & sys.stdlib_module_names

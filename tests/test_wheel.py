"""The built wheel: its content, and its start in a folder with hostile packages of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy of the tracked files, so that the tree stays clean."""
    source = tmp_path_factory.mktemp("source")
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in archive.decode().split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_contains_every_package_and_its_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"archiver", "heliograph", "producers", "router", "schemas", "sinks"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if name.split("/")[0] in tops and not name.endswith(".md"):
            assert name in names


@pytest.mark.parametrize("way_in", ["console script", "module"])
def test_hostile_packages_of_the_same_names_are_not_imported(
    wheel: Path, tmp_path: Path, way_in: str
) -> None:
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    python = tmp_path / "venv" / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    zipfile.ZipFile(wheel).extractall(purelib)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (Path(purelib) / "dependencies.pth").write_text(f"{ours}\n")
    script = tmp_path / "venv" / "bin" / "heliograph"
    script.write_text(f"#!{python}\nimport sys\nfrom heliograph.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    hostile = tmp_path / "hostile"
    for name in ("schemas", "router", "sinks", "producers", "archiver", "heliograph"):
        (hostile / name).mkdir(parents=True)
        (hostile / name / "__init__.py").write_text("raise SystemExit('hostile module imported')\n")
    command = [script] if way_in == "console script" else [python, "-P", "-m", "heliograph"]
    environment = {"HELIOGRAPH_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*command, "emit", "Instance:StateChange", "--resource", "i-1", "--content", "state=Running"],
        cwd=hostile, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Instance:StateChange" in done.stdout
    idle = subprocess.run(
        [*command, "run", "--until-idle"],
        cwd=hostile,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert idle.returncode == 0, idle.stderr

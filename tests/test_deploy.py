"""Static checks of the deployment files: the names in them exist and agree."""

from __future__ import annotations

import configparser
import inspect
import re
import shlex
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from heliograph.app.config import Config, load, settings
from heliograph.app.health import serve
from heliograph.app.roles import ROLES
from heliograph.app.runner import Runner
from heliograph.bus.kafka.settings import parse as parse_kafka
from heliograph.bus.memory import MemoryBus
from heliograph.cli.main import app
from heliograph.store.s3.location import parse_location
from schemas.clock import SystemClock

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CONTAINERFILE = DEPLOY / "Containerfile"
UNITS = sorted(path for path in (DEPLOY / "systemd").iterdir() if path.suffix in {".service", ".timer"})
UNIT = DEPLOY / "systemd" / "heliograph.service"
COMPACTION = UNIT.with_name("heliograph-compaction.service")
PORT = 9464
PROGRAM = "/opt/heliograph/bin/heliograph"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
GUIDE = ROOT / "docs" / "how-to" / "deploy.md"
IMAGE = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+:(?!latest)[A-Za-z0-9][A-Za-z0-9._-]*")
"""An image name with a tag and without a host."""
API_VERSIONS = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Secret": "v1",
}
INSTRUCTIONS = {
    "FROM",
    "RUN",
    "COPY",
    "ENV",
    "USER",
    "WORKDIR",
    "VOLUME",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the Containerfile, each as (name, arguments on one line)."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in whole.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, _, rest in pairs]


def last(name: str) -> str:
    return [arguments for each, arguments in instructions() if each == name][-1]


def exec_form(arguments: str) -> list[str]:
    return list(yaml.safe_load(arguments))


def unit(path: Path = UNIT) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        strict=True, interpolation=None, delimiters=("=",), comment_prefixes=("#",)
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def assignments(text: str) -> dict[str, str]:
    """Returns the variables of an environment file, including its suggestions (`#NAME=value`)."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def unit_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(unit()["Service"]["Environment"]))


def unit_command(roles: str) -> list[str]:
    command = unit()["Service"]["ExecStart"].replace("$ROLES", roles)
    return shlex.split(command.replace("${METRICS}", unit_environment()["METRICS"]))


def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose.yaml")[0]


def compose_roles() -> dict[str, dict[str, Any]]:
    return {
        name: each for name, each in compose()["services"].items() if each["image"].startswith("heliograph:")
    }


def manifests(kind: str) -> dict[str, dict[str, Any]]:
    found = (each for path in sorted(KUBERNETES.glob("*.yaml")) for each in documents(path))
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pod_specs() -> dict[str, dict[str, Any]]:
    jobs = {name: each["spec"]["jobTemplate"]["spec"] for name, each in manifests("CronJob").items()}
    deployments = {name: each["spec"] for name, each in manifests("Deployment").items()}
    return {name: each["template"]["spec"] for name, each in (deployments | jobs).items()}


def containers() -> dict[str, dict[str, Any]]:
    return {name: spec["containers"][0] for name, spec in pod_specs().items()}


def written_commands() -> Iterator[tuple[str, list[str]]]:
    """Returns the commands in comments and in the code blocks of the guide."""
    pattern = re.compile(r"(?:^\$ |exec \S+ (?:-- )?|-- |/bin/|run --rm \S+ )heliograph (.+?)(?: +#.*)?$")
    texts = {path: path.read_text().splitlines() for path in FILES}
    blocks = re.findall(r"^```\w*\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    texts[GUIDE] = [line for block in blocks for line in block.splitlines()]
    for path, lines in texts.items():
        for line in lines:
            found = pattern.search(line)
            if found and "$" not in found[1] and "=" not in line.partition("heliograph")[0]:
                yield relative(path), shlex.split(found[1])


def commands() -> list[tuple[str, list[str]]]:
    entry = exec_form(last("ENTRYPOINT"))
    assert entry == ["heliograph"]
    found = [("Containerfile", exec_form(last("CMD")))]
    found += [(f"compose {name}", each["command"]) for name, each in compose_roles().items()]
    found += [(f"kubernetes {name}", each["args"]) for name, each in containers().items()]
    found += [(f"unit {roles!r}", unit_command(roles)[1:]) for roles in ("", "router", "router deliverer")]
    found.append(("unit of compaction", shlex.split(unit(COMPACTION)["Service"]["ExecStart"])[1:]))
    return [*found, *written_commands()]


def environments() -> dict[str, dict[str, str]]:
    """Returns the environment of each kind of deployment, with invented secrets."""
    (settings_map,) = manifests("ConfigMap").values()
    secrets = manifests("Secret")["heliograph"]["stringData"]
    example = assignments((DEPLOY / "systemd" / "heliograph.env.example").read_text())
    found = {
        "kubernetes": settings_map["data"] | dict.fromkeys(secrets, "made-up"),
        "systemd": unit_environment() | {name: value or "made-up" for name, value in example.items()},
    }
    for name, service in compose_roles().items():
        environment: dict[str, str] = service["environment"]
        found[f"compose {name}"] = {
            key: re.sub(r"\$\{.*\}", "made-up", each) for key, each in environment.items()
        }
    return found


def there(path: Path) -> bool:
    """Replaces the CA file, which exists only on the machines of the cluster."""
    return bool(path.name)


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    environment = environments()[name]
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(Path, "is_file", there)
    return load({"HELIOGRAPH_HOME": "/nonexistent/heliograph", **environment})


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".yaml"], ids=relative)
def test_every_yaml_file_parses(path: Path) -> None:
    assert documents(path)


@pytest.mark.parametrize("path", [*FILES, GUIDE], ids=relative)
def test_every_named_setting_exists(path: Path) -> None:
    known = {setting.environment for setting in settings()} | {"HELIOGRAPH_HOME", "HELIOGRAPH_CONFIG"}
    assert set(re.findall(r"\bHELIOGRAPH_[A-Z0-9_]*[A-Z0-9]", path.read_text())) <= known


@pytest.mark.parametrize("name", environments())
def test_the_settings_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(name, monkeypatch)
    assert parse_kafka(config.bus_url).servers
    for location in (parse_location(config.archive_url), parse_location(config.objects_url)):
        assert location.access_key is not None
        assert location.secret_key is not None
        assert location.access_key.reveal()
        assert location.secret_key.reveal()


@pytest.mark.parametrize("name", environments())
def test_archive_and_objects_have_different_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(name, monkeypatch)
    assert parse_location(config.archive_url).name != parse_location(config.objects_url).name


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_contains_a_secret(path: Path) -> None:
    secrets = re.compile(r"(?:PASSWORD|SECRET_KEY|password|secret_key)(?:=|: ?)([^\s&\"]*)", re.MULTILINE)
    for value in secrets.findall(path.read_text()):
        assert value.startswith(("env:", "${")) or value in {"", '""'}


@pytest.mark.parametrize(("where", "words"), commands(), ids=str)
def test_every_command_is_accepted(where: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{where}: no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    given = command.make_context(words[0], rest).params
    if words[0] == "run":
        assert set(given["role"] or ()) <= set(ROLES), where


def test_commands_are_found_in_every_kind_of_file() -> None:
    places = {where for where, _ in commands()}
    assert {"Containerfile", "deploy/compose.yaml", "docs/how-to/deploy.md"} <= places


def test_images_have_a_tag_and_no_host() -> None:
    named = [arguments.split()[0] for name, arguments in instructions() if name == "FROM"]
    named += [service["image"] for service in compose()["services"].values()]
    named += [container["image"] for container in containers().values()]
    assert [image for image in named if not IMAGE.fullmatch(image)] == []


def test_all_files_name_the_same_image_with_the_current_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    named = {service["image"] for service in compose_roles().values()}
    named |= {container["image"] for container in containers().values()}
    (image,) = documents(KUBERNETES / "kustomization.yaml")[0]["images"]
    assert named == {f"heliograph:{version}"}
    assert str(image["newTag"]) == version


def test_the_health_paths_are_served() -> None:
    texts = "".join(path.read_text() for path in FILES)
    paths = set(re.findall(r"127\.0\.0\.1:9464(/\w+)", texts)) | set(re.findall(r"path: (/\w+)", texts))
    assert paths == {"/readyz", "/healthz"}
    server = serve("127.0.0.1:0", Runner(MemoryBus(SystemClock()), {}))
    try:
        for path in paths:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=10) as answer:
                assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()


def test_the_containerfile_copies_existing_files() -> None:
    assert [name for name, _ in instructions() if name not in INSTRUCTIONS] == []
    copied = [arguments.split()[:-1] for name, arguments in instructions() if name == "COPY"]
    sources = {source.rstrip("/") for words in copied if not words[0].startswith("--") for source in words}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {each.rstrip("*") for each in packages["include"]} <= sources
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text()
    assert set(re.findall(r"^!(.+)$", ignored, re.MULTILINE)) == sources


def test_the_image_runs_as_an_ordinary_user() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    home = dict(word.split("=", 1) for word in last("ENV").split())["HELIOGRAPH_HOME"]
    assert home == last("VOLUME") == last("WORKDIR")
    assert last("EXPOSE") == str(PORT)
    assert "/readyz" in last("HEALTHCHECK")


def test_the_containerfile_installs_only_packages_with_a_hash() -> None:
    runs = " && ".join(arguments for name, arguments in instructions() if name == "RUN").split(" && ")
    installs = [run for run in runs if " install " in run and "pip" in run]
    assert len(installs) == 3
    for run in installs:
        assert "--require-hashes" in run or "dist/heliograph-" in run
    (choice,) = [run.partition(" > ")[0] for run in runs if run.startswith("sed ")]
    chosen = subprocess.run(shlex.split(choice), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"setuptools==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", chosen)


def drains() -> float:
    """Returns the longest time in seconds until a process stops what is in flight."""
    return float(inspect.signature(Runner.join).parameters["seconds"].default)


def test_compose_runs_each_role() -> None:
    assert [each["command"][1] for each in compose_roles().values()] == list(ROLES)
    for service in compose_roles().values():
        assert service["command"][-1] == f"0.0.0.0:{PORT}"
        assert float(service["stop_grace_period"].removesuffix("s")) >= 3 * drains()
        (probe,) = [word for word in service["healthcheck"]["test"] if "/readyz" in word]
        assert probe in last("HEALTHCHECK")


def test_the_dependencies_volumes_and_bucket_of_compose_exist() -> None:
    services = compose()["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose()["volumes"]
    bucket = parse_location(services["archiver"]["environment"]["HELIOGRAPH_ARCHIVE_URL"]).bucket
    assert services["bucket"]["command"][0].endswith(f"/{bucket}")


def test_the_example_names_every_key_of_compose() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert asked == set(assignments((DEPLOY / "compose.env.example").read_text()))


@pytest.mark.parametrize("path", [UNIT, COMPACTION], ids=relative)
def test_units_are_hardened(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] not in {"", "root"}
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    home = dict(word.split("=", 1) for word in shlex.split(service["Environment"]))["HELIOGRAPH_HOME"]
    assert home == f"/var/lib/{service['StateDirectory']}"
    assert service["ExecStart"].startswith(f"{PROGRAM} ")


def test_the_unit_restarts_and_drains() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert float(service["TimeoutStopSec"].removesuffix("s")) >= 3 * drains()


@pytest.mark.parametrize("path", UNITS, ids=relative)
def test_units_have_known_sections(path: Path) -> None:
    kind = {".service": "Service", ".timer": "Timer"}[path.suffix]
    assert set(unit(path)) - {"Install"} == {"DEFAULT", "Unit", kind}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Uses another existing program, since systemd stops at a missing one."""
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_kubernetes_has_the_expected_kinds() -> None:
    for path in KUBERNETES.glob("*.yaml"):
        for found in documents(path):
            assert found["apiVersion"] == API_VERSIONS[found["kind"]]


def test_the_kustomization_lists_every_file() -> None:
    listed = set(documents(KUBERNETES / "kustomization.yaml")[0]["resources"])
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")} - {
        "kustomization.yaml",
        "secret.example.yaml",
    }


def test_each_role_has_two_replicas_and_a_budget() -> None:
    assert set(manifests("Deployment")) == {f"heliograph-{role}" for role in ROLES}
    for name, deployment in manifests("Deployment").items():
        spec = deployment["spec"]
        budget = manifests("PodDisruptionBudget")[name]["spec"]
        assert budget["minAvailable"] < spec["replicas"] == 2
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == labels
        assert containers()[name]["args"][1] == labels["app.kubernetes.io/component"]


@pytest.mark.parametrize("name", manifests("Deployment"))
def test_probes_use_the_metrics_port(name: str) -> None:
    container = containers()[name]
    assert container["ports"] == [{"name": "metrics", "containerPort": PORT}]
    assert container["args"][-1] == f"0.0.0.0:{PORT}"
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert pod_specs()[name]["terminationGracePeriodSeconds"] >= 3 * drains()
    (policy,) = manifests("NetworkPolicy").values()
    assert policy["spec"]["ingress"][0]["ports"][0]["port"] == PORT


@pytest.mark.parametrize("name", pod_specs())
def test_pods_are_restricted(name: str) -> None:
    spec, container = pod_specs()[name], containers()[name]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    user, _, group = last("USER").partition(":")
    pod = spec["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["runAsNonRoot"]) == (int(user), int(group), True)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", pod_specs())
def test_pods_refer_to_existing_objects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, container = pod_specs()[name], containers()[name]
    for source in container["envFrom"]:
        ((reference, named),) = source.items()
        kind = {"configMapRef": "ConfigMap", "secretRef": "Secret"}[reference]
        assert named["name"] in manifests(kind)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(paths) == set(volumes)
    assert last("VOLUME") in paths.values()
    authority = Path(parse_kafka(loaded("kubernetes", monkeypatch).bus_url).ca)
    assert paths["kafka-ca"] == str(authority.parent)
    secret = manifests("Secret")[volumes["kafka-ca"]["secret"]["secretName"]]
    assert authority.name in secret["stringData"]

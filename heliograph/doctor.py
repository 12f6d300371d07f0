"""What `heliograph doctor` examines: each part is tried for real and reported, whether or not another fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping

import msgspec

from heliograph.config import Config, load
from heliograph.deployment import Deployment
from heliograph.store.base import ObjectStore
from heliograph.store.probe import probe
from router.configuration import Configuration
from schemas.errors import HeliographError
from sinks.kinds import check_settings


class Finding(msgspec.Struct, frozen=True):
    """One check. `state`: ok, warning or failed."""

    check: str
    state: str
    detail: str

    def row(self) -> dict[str, str]:
        """As a listing's row."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Try everything that a running deployment needs."""
    try:
        config = load(environment)
    except HeliographError as error:
        for line in str(error).splitlines():
            yield Finding("configuration", "failed", line)
        return
    yield Finding("configuration", "ok", f"home {config.home}")
    with Deployment(config) as deployment:
        yield _tried("bus", lambda: f"log {deployment.bus.log_id}, {len(deployment.bus.topics())} topics")
        yield _space(config)
        yield _tried("archive", lambda: _probed(deployment.archive))
        yield _tried("objects", lambda: _probed(deployment.objects))
        yield from _targets(deployment)


def _tried(check: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", act())
    except (HeliographError, OSError) as error:
        return Finding(check, "failed", str(error))


def _space(config: Config) -> Finding:
    free = shutil.disk_usage(config.home).free // 2**20
    reserve = config.bus.reserve_mb
    state = "ok" if free > 2 * reserve else "warning" if free > reserve else "failed"
    return Finding("disk space", state, f"{free:,} MiB free; producers are refused below {reserve:,} MiB")


def _probed(store: ObjectStore) -> str:
    probe(store)
    return f"{store.url}: writes, reads, and keeps what is there"


def _targets(deployment: Deployment) -> Iterator[Finding]:
    try:
        configuration = Configuration(deployment.bus)
        configuration.refresh()
    except HeliographError as error:
        yield Finding("subscriptions", "failed", str(error))
        return
    count = len(configuration.subscriptions)
    yield Finding("subscriptions", "ok" if count else "warning", f"{count} applied")
    for target in configuration.targets.values():
        problems = check_settings(target)
        yield Finding(
            f"target {target.id}", "failed" if problems else "ok", "; ".join(problems) or target.kind
        )

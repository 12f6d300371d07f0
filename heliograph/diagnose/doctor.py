"""Examines a deployment for `heliograph doctor`: tries each part and reports it, even if another part fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from heliograph.app.config import Config, load
from heliograph.app.deployment import Deployment
from heliograph.diagnose.finding import Finding, State
from heliograph.store.base import ObjectStore
from heliograph.store.probe import probe
from router.configuration import Configuration
from schemas.errors import HeliographError
from schemas.subscription import Target
from sinks.kinds import find_kind


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Tries everything that a running deployment needs; yields a finding for each part."""
    try:
        config = load(environment)
    except HeliographError as error:
        for line in str(error).splitlines():
            yield Finding("configuration", State.FAILED, line)
        return
    yield Finding("configuration", State.OK, f"home {config.home}")
    with Deployment(config) as deployment:
        yield from _bus(deployment)
        yield from _archive(deployment)
        yield _tried("objects", lambda: _probed(deployment.objects))


def _tried(check: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(check, State.OK, act())
    except (HeliographError, OSError) as error:
        return Finding(check, State.FAILED, str(error))


def _bus(deployment: Deployment) -> Iterator[Finding]:
    """Examines the bus, and then the parts that need it."""
    match deployment.config.bus_url.partition("://")[0]:
        case "kafka":
            from heliograph.diagnose.kafka import examine_bus, servers

            yield from servers(deployment.config)
            opened = _opened(deployment)
            yield opened
            if opened.state is State.OK:
                yield from examine_bus(deployment.config, deployment.bus, deployment.clock)
        case kind:
            opened = _opened(deployment)
            yield opened
            if kind == "sqlite":
                yield _space(deployment.config)
    if opened.state is State.OK:
        yield from _targets(deployment)


def _opened(deployment: Deployment) -> Finding:
    return _tried("bus", lambda: f"log id {deployment.bus.log_id}, {len(deployment.bus.topics())} topics")


def _space(config: Config) -> Finding:
    try:
        free = shutil.disk_usage(config.home).free // 2**20
    except OSError as error:
        return Finding("disk space", State.FAILED, str(error))
    reserve = config.bus.reserve_mb
    state = State.OK if free > 2 * reserve else State.WARNING if free > reserve else State.FAILED
    return Finding("disk space", state, f"{free:,} MiB free; producers are refused below {reserve:,} MiB")


def _archive(deployment: Deployment) -> Iterator[Finding]:
    tried = _tried("archive", lambda: _probed(deployment.archive))
    yield tried
    if tried.state is State.OK and deployment.config.archive_url.startswith("s3://"):
        from heliograph.diagnose.kafka import store_clock

        yield store_clock(deployment.archive, deployment.clock)


def _probed(store: ObjectStore) -> str:
    probe(store)
    return f"{store.url}: writes and reads, and does not overwrite objects"


def _targets(deployment: Deployment) -> Iterator[Finding]:
    try:
        configuration = Configuration(deployment.bus)
        configuration.refresh()
    except HeliographError as error:
        yield Finding("subscriptions", State.FAILED, str(error))
        return
    count = len(configuration.subscriptions)
    yield Finding("subscriptions", State.OK if count else State.WARNING, _counted(count))
    for target in configuration.read_targets().values():
        yield _tried(f"target {target.id}", partial(_examined, target, deployment))


def _examined(target: Target, deployment: Deployment) -> str:
    """Returns the target's kind. Raises InputError or StoreError that says what the target lacks on this machine."""
    kind = find_kind(target.kind)
    kind.examine(kind.read_settings(target.settings), lambda: deployment.sink_context)
    return target.kind


def _counted(count: int) -> str:
    return f"{count} applied" if count else "none applied; `heliograph subscriptions apply FILE` applies some"

"""Sends signed requests to agents within the quotas, and reads requests from the topic `commands`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from heliograph.bus.base import Bus
from producers.assistant.requests import (
    MOST_INSTANCES,
    Command,
    File,
    Invocation,
    Request,
    Run,
    SendFile,
    Stop,
)
from producers.assistant.signing import Keys
from schemas.clock import Clock
from schemas.errors import InputError, NotFound
from schemas.execution import RepeatMode
from schemas.record import TopicPartition
from schemas.topics import COMMANDS

REQUESTS = TopicPartition(COMMANDS, 0)
_DAY = 86_400_000
_INVOCATION_KINDS = ("run", "send-file")


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of one region. `kept_commands`: kept commands, each version counted; `daily_runs`: requests to run a
    command or send a file in one day (UTC)."""

    kept_commands: int
    daily_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An account that sends requests to the instances of one region. `uid`: account id."""

    bus: Bus
    keys: Keys
    clock: Clock
    region: str
    uid: int
    quotas: Quotas

    def run(
        self,
        command: Command,
        instances: Sequence[str],
        *,
        parameters: Mapping[str, str],
        username: str = "",
        mode: RepeatMode = RepeatMode.ONCE,
        frequency: str = "",
    ) -> Sequence[Run]:
        """Requests runs of a command on `instances`, with at most fifty instances in one request. Raises InputError,
        BusError."""
        invocations = [
            Run(
                *self.new_header(),
                invoke_id=new_id("t"),
                instances=some,
                command=command,
                parameters=dict(parameters),
                username=username,
                mode=mode,
                frequency=frequency,
            )
            for some in _split(instances)
        ]
        self._append_within_quota(invocations)
        return invocations

    def send(self, file: File, instances: Sequence[str]) -> Sequence[SendFile]:
        """Requests to write a file on `instances`, with at most fifty instances in one request. Raises InputError,
        BusError."""
        invocations = [
            SendFile(*self.new_header(), invoke_id=new_id("f"), instances=some, file=file)
            for some in _split(instances)
        ]
        self._append_within_quota(invocations)
        return invocations

    def stop(self, invocation: Invocation, instances: Sequence[str] = ()) -> Stop:
        """Requests to stop an execution on `instances`, or on all its instances if none are given. Raises InputError,
        BusError."""
        if unknown := sorted(set(instances) - set(invocation.instances)):
            raise InputError(
                f"instance {unknown[0]!r}: {invocation.invoke_id} does not run on it; name one of its instances"
            )
        stop = Stop(
            id=new_id("r"),
            time=self.clock.now(),
            region=invocation.region,
            caller=self.uid,
            invoke_id=invocation.invoke_id,
            instances=tuple(instances),
        )
        self.append([stop])
        return stop

    def new_header(self) -> tuple[str, int, str, int]:
        """Returns the first four fields of a new request: id, time, region and account."""
        return new_id("r"), self.clock.now(), self.region, self.uid

    def append(self, requests: Sequence[Request]) -> None:
        """Signs and appends requests; they are durable on return."""
        self.bus.append([self.keys.sign(request) for request in requests])

    def _append_within_quota(self, invocations: Sequence[Invocation]) -> None:
        today = count_runs_today(self.bus, self.keys, self.region, self.clock.now())
        if today + len(invocations) > self.quotas.daily_runs:
            raise InputError(
                f"{today} runs were requested today in {self.region}, and {len(invocations)} more would exceed the "
                f"limit {self.quotas.daily_runs}; raise [assistant] daily_runs, or wait until midnight UTC"
            )
        self.append(invocations)


class _Kind(msgspec.Struct):
    kind: str = ""


_decode_kind = msgspec.json.Decoder(_Kind).decode


def read_requests(
    bus: Bus, keys: Keys, *, start: int = 0, kinds: Collection[str] = (), containing: str = ""
) -> Iterator[Request]:
    """Yields each verified request from offset `start` on, once and in order.

    `kinds`: the kinds to yield, all if empty. `containing`: a text that the request's bytes must contain. Other
    requests are skipped before their signatures are checked, which is cheap.
    """
    needle = containing.encode(errors="surrogateescape")
    known: set[str] = set()
    while records := bus.read(REQUESTS, start).records:
        for record in records:
            try:
                if needle not in record.value or (kinds and _decode_kind(record.value).kind not in kinds):
                    continue
                request = keys.verify(record)
            except (InputError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # agents append it to `rejects`
            if request.id not in known:
                known.add(request.id)
                yield request
        start = records[-1].offset + 1


def find_invocation(bus: Bus, keys: Keys, invoke_id: str) -> Invocation:
    """Returns the request of an execution. Raises NotFound."""
    for request in read_requests(bus, keys, kinds=_INVOCATION_KINDS, containing=invoke_id):
        if isinstance(request, Run | SendFile) and request.invoke_id == invoke_id:
            return request
    raise NotFound(
        f"execution {invoke_id!r}: no such execution; `heliograph assistant list` shows all executions"
    )


def stopped_instances(requests: Iterable[Request]) -> Mapping[str, frozenset[str]]:
    """Returns the instances on which `requests`, given in their order, stop an execution, by execution id."""
    instances: dict[str, tuple[str, ...]] = {}
    found: dict[str, frozenset[str]] = {}
    for one in requests:
        if isinstance(one, Run | SendFile):
            instances[one.invoke_id] = one.instances
        elif isinstance(one, Stop):
            named = one.instances or instances.get(one.invoke_id, ())
            found[one.invoke_id] = found.get(one.invoke_id, frozenset()).union(named)
    return found


def count_runs_today(bus: Bus, keys: Keys, region: str, now: int) -> int:
    """Counts the requests to run a command or send a file in a region since midnight (UTC)."""
    start = bus.offset_at(REQUESTS, now - now % _DAY)
    return sum(one.region == region for one in read_requests(bus, keys, start=start, kinds=_INVOCATION_KINDS))


def new_id(letter: str) -> str:
    """Returns a new random id that begins with `letter`."""
    return f"{letter}-{uuid4().hex[:20]}"


def _split(instances: Sequence[str]) -> Iterator[tuple[str, ...]]:
    distinct = tuple(dict.fromkeys(instances))
    if not distinct:
        raise InputError("instances: name at least one")
    for start in range(0, len(distinct), MOST_INSTANCES):
        yield distinct[start : start + MOST_INSTANCES]

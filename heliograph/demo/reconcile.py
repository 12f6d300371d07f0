"""Compares the results of a finished run with the expected ones: events, deliveries, received bodies, archived records.

The expected deliveries follow from the events and the subscriptions alone, by the plain form of the filter and not by
the index that the router uses. The demo, chaos and their tests share this one comparison.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from archiver.read.query import query
from archiver.read.reader import read_records
from archiver.read.verify import verify
from heliograph.app.deployment import Deployment
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.operations.deliveries import reduce_verdicts
from heliograph.store.base import ObjectStore
from heliograph.store.memory import MemoryStore
from heliograph.testing.receiver import Arrival, Receiver
from router.match.explain import explain
from schemas.delivery import Delivery, Verdict, VerdictState, delivery_id, read_delivery, read_verdict
from schemas.errors import ArchiveBroken
from schemas.notification import read_routing
from schemas.record import Position, Record
from schemas.subscription import Subscription, Target
from schemas.topics import ARCHIVED, DEAD_LETTERS, VERDICTS, matches

_READERS = 8
"""Number of objects that are read at the same time."""
_LOGGED = "select project, logstore, delivery, event from logs"

Bodies = Mapping[str, Sequence[bytes]]
"""Bodies that one target took, by delivery id; a repeat is a second body."""


class Problem(enum.StrEnum):
    """The kinds of problems that a run can have."""

    LOST = "lost"
    ALTERED = "altered"
    UNKNOWN = "unknown"  # an event that was not accepted, or a delivery id that the run does not have
    ENDED_OTHERWISE = "ended-otherwise"
    TWICE = "twice"
    OUT_OF_ORDER = "out-of-order"
    FAILED = "failed"


class Finding(NamedTuple):
    """One problem, described in one line."""

    problem: Problem
    detail: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.detail}"


class Check(NamedTuple):
    """One comparison: its name, the number of things compared, and the problems found."""

    name: str
    compared: int
    findings: Sequence[Finding]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run that came to rest.

    `endings`: verdict with which a target's deliveries must end, by target id; None if they must still wait.
    `accepted`: every event whose append returned. `records`: those of the archived topics, each partition in order.
    `received`: bodies that each target took, by its id, for targets that keep bodies. `arrivals`: every request, in
    order. `archive_problems`: problems that verifying and reading the archive reported.
    """

    log_id: str
    subscriptions: Sequence[Subscription]
    endings: Mapping[str, VerdictState | None]
    accepted: Sequence[bytes]
    records: Sequence[Record]
    received: Mapping[str, Bodies]
    arrivals: Sequence[Arrival]
    archived: Sequence[Record]
    archive_problems: Sequence[str]

    def select_records(self, pattern: str) -> Iterator[Record]:
        """Returns the records of the topics that match a pattern."""
        return (record for record in self.records if matches(record.topic, (pattern,)))

    def read_verdicts(self) -> Mapping[str, Verdict]:
        """Returns the verdict of each delivery that ended, by its id."""
        return reduce_verdicts(read_verdict(record.value) for record in self.select_records(VERDICTS))


class Expected(NamedTuple):
    """A delivery that the run must have. `ends`: its verdict; None if it still waits."""

    event: Record
    target: str
    ends: VerdictState | None

    def __str__(self) -> str:
        return f"{self.event.position} to {self.target}"


def read_run(
    deployment: Deployment,
    receiver: Receiver,
    *,
    subscriptions: Sequence[Subscription],
    endings: Mapping[str, VerdictState | None],
    accepted: Sequence[bytes],
) -> Run:
    """Reads the results of a run from topics, archive, stores and receiver. Raises BusError, StoreError.

    Targets that are not in `endings` must have delivered everything.
    """
    archived, problems = _read_archive(deployment)
    targets = {target.id: target for each in subscriptions for target in each.target}
    return Run(
        log_id=deployment.bus.log_id,
        subscriptions=subscriptions,
        endings={**dict.fromkeys(targets, VerdictState.DELIVERED), **endings},
        accepted=accepted,
        records=list(read_topics(deployment.bus, ARCHIVED)),
        received=_read_received(deployment, receiver, targets),
        arrivals=tuple(receiver.arrivals),
        archived=archived,
        archive_problems=problems,
    )


def read_topics(bus: Bus, patterns: Sequence[str]) -> Iterator[Record]:
    """Reads every record of the topics that match the patterns."""
    for topic in sorted(bus.topics()):
        if matches(topic, patterns):
            yield from read_topic(bus, topic)


def check_run(run: Run) -> Sequence[Check]:
    """Returns every comparison of the run, with the problems found."""
    expected = _expect(run)
    received = [
        finding for target, bodies in run.received.items() for finding in _received(target, bodies, expected)
    ]
    ordered = [one for one in expected.values() if one.target in _ordered_targets(run)]
    return [
        Check("accepted events are in their topics", len(run.accepted), list(_accepted(run))),
        Check("every delivery ended as it had to", len(expected), list(_ended(run, expected))),
        Check("targets received the bytes of the events", sum(map(len, run.received.values())), received),
        Check("ordered targets received events in order", len(ordered), list(_in_order(run, expected))),
        Check("every record is archived once", len(run.records), list(_archived_once(run))),
    ]


def find_problems(run: Run) -> list[Finding]:
    """Returns the problems of all comparisons."""
    return [finding for check in check_run(run) for finding in check.findings]


def count_repeats(run: Run) -> int:
    """Counts the repeated bodies: for each delivery, every time after the first that its target took it."""
    return sum(len(each) - 1 for bodies in run.received.values() for each in bodies.values())


def _expect(run: Run) -> Mapping[str, Expected]:
    """Computes the expected deliveries from events and subscriptions, by delivery id."""
    found: dict[str, Expected] = {}
    for event in run.select_records("events.*"):
        routing = read_routing(event.value)
        for subscription in run.subscriptions:
            if all(clause.held for clause in explain(subscription, routing)):
                for target in subscription.target:
                    identity = delivery_id(run.log_id, event.position, subscription.name, target.id)
                    found[identity] = Expected(event, target.id, run.endings[target.id])
    return found


def _accepted(run: Run) -> Iterator[Finding]:
    """Finds accepted events that no topic holds, and events that were never accepted."""
    accepted, held = Counter(run.accepted), Counter(record.value for record in run.select_records("events.*"))
    for value in (accepted - held).elements():
        yield Finding(Problem.LOST, f"accepted, and in no topic: {_shown(value)}")
    for value in (held - accepted).elements():
        yield Finding(Problem.UNKNOWN, f"in a topic, and not accepted: {_shown(value)}")


def _ended(run: Run, expected: Mapping[str, Expected]) -> Iterator[Finding]:
    """Finds deliveries with a missing or wrong verdict, delivered ones that never arrived, and dead ones without a dead
    letter."""
    verdicts = run.read_verdicts()
    letters = {one.id: one for one in map(read_delivery, run.select_records(DEAD_LETTERS))}
    for identity, one in expected.items():
        verdict = verdicts.get(identity)
        state = verdict.state if verdict else None
        if state is None and one.ends is not None:
            yield Finding(Problem.LOST, f"{one}: no verdict")
        elif state is not one.ends:
            yield Finding(Problem.ENDED_OTHERWISE, f"{one}: {state}, should be {one.ends or 'waiting'}")
        elif one.ends is VerdictState.DEAD:
            yield from _kept(one, letters.get(identity))
        elif one.ends and identity not in run.received.get(one.target, {identity: ()}):
            yield Finding(Problem.LOST, f"{one}: has the verdict delivered, but was never received")
    for identity in verdicts.keys() - expected.keys():
        yield Finding(Problem.UNKNOWN, f"verdict of {identity}, which is not a delivery of this run")


def _kept(one: Expected, letter: Delivery | None) -> Iterator[Finding]:
    if letter is None:
        yield Finding(Problem.LOST, f"{one}: has the verdict dead, but no dead letter")
    elif letter.event != one.event.value:
        yield Finding(Problem.ALTERED, f"{one}: its dead letter holds another event")


def _received(target: str, bodies: Bodies, expected: Mapping[str, Expected]) -> Iterator[Finding]:
    """Finds bodies under an id that is no delivery to the target, and bodies that are not the event's bytes."""
    for identity, each in bodies.items():
        one = expected.get(identity)
        if one is None or one.target != target:
            yield Finding(
                Problem.UNKNOWN, f"{target} received {identity}, which is not a delivery to this target"
            )
        elif set(each) != {one.event.value}:
            yield Finding(Problem.ALTERED, f"{one}: received with other bytes")


def _in_order(run: Run, expected: Mapping[str, Expected]) -> Iterator[Finding]:
    """Finds first requests for a resource, at an ordered target, that came before those of earlier events."""
    ordered = _ordered_targets(run)
    latest: dict[tuple[str, bytes | None], Position] = {}
    for identity in dict.fromkeys(arrival.delivery for arrival in run.arrivals):
        one = expected.get(identity)
        if one is not None and one.target in ordered:
            resource, position = (one.target, one.event.key), one.event.position
            before = latest.setdefault(resource, position)
            if position < before:
                yield Finding(Problem.OUT_OF_ORDER, f"{one}: its first request came after that of {before}")
            latest[resource] = max(before, position)


def _archived_once(run: Run) -> Iterator[Finding]:
    """Finds records that the archive lacks, has twice, or has with other bytes, and archives that do not verify."""
    appended = {record.position: record for record in run.records}
    archived: dict[Position, Record] = {}
    for record in run.archived:
        if record.position in archived:
            yield Finding(Problem.TWICE, f"{record.position} is archived more than once")
        archived[record.position] = record
        if appended.get(record.position) != record:
            yield Finding(
                Problem.ALTERED, f"{record.position} is archived with other content than its topic has"
            )
    for position in sorted(appended.keys() - archived.keys()):
        yield Finding(Problem.LOST, f"{position} is not archived")
    for problem in run.archive_problems:
        yield Finding(Problem.ALTERED, f"archive: {problem}")


def _ordered_targets(run: Run) -> set[str]:
    return {
        target.id for subscription in run.subscriptions for target in subscription.target if target.ordered
    }


def _read_archive(deployment: Deployment) -> tuple[Sequence[Record], Sequence[str]]:
    """Returns the records that can be read, and the problems of verifying and reading."""
    problems = [str(problem) for problem in verify(deployment.archive).problems]
    records: list[Record] = []
    try:
        records.extend(read_records(deployment.archive))
    except ArchiveBroken as error:
        problems.append(str(error))
    return records, problems


def _read_received(
    deployment: Deployment, receiver: Receiver, targets: Mapping[str, Target]
) -> Mapping[str, Bodies]:
    """Reads the bodies that targets took. Bodies at a path that no target has are kept under that path."""
    received: dict[str, Bodies] = {
        path: _grouped((one.delivery, one.body) for one in receiver.taken if one.path == path)
        for path in {arrival.path for arrival in receiver.taken}
    }
    for identity, target in targets.items():
        match target.kind:
            case "callback":
                received[identity] = received.pop(urlsplit(str(target.settings["url"])).path, {})
            case "topic":
                queued = read_topics(deployment.bus, [target.settings["topic"]])
                received[identity] = _grouped((_delivery_header(record), record.value) for record in queued)
            case "object":
                received[identity] = _grouped(_read_objects(deployment.objects))
            case "logs":
                received[identity] = _grouped(_read_logs(deployment, target))
            case _:
                continue  # a function keeps no bodies
    return received


def _read_objects(objects: ObjectStore) -> Iterator[tuple[str, bytes]]:
    keys = [info.key for info in objects.list("events/")]
    with ThreadPoolExecutor(_READERS) as readers:
        for key, body in zip(keys, readers.map(objects.get, keys), strict=True):
            yield key.rpartition("/")[2].removesuffix(".json"), body


def _read_logs(deployment: Deployment, target: Target) -> Iterator[tuple[str, bytes]]:
    """Reads the log store through a query over an empty archive, so that the archive is not converted for it."""
    config = deployment.config
    names = (target.settings["project"], target.settings["logstore"])
    for row in query(MemoryStore(), _LOGGED, cache=config.home / "cache", logs=config.logs_folder).rows():
        if (row["project"], row["logstore"]) == names:
            yield row["delivery"], row["event"].encode()


def _grouped(came: Iterable[tuple[str, bytes]]) -> Bodies:
    found: dict[str, list[bytes]] = defaultdict(list)
    for delivery, body in came:
        found[delivery].append(body)
    return found


def _delivery_header(record: Record) -> str:
    return (record.header("delivery") or b"").decode()


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")[:120]

"""What a run left in the log, the archive and the receivers, and everything that is wrong with it."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from archiver.read.query import query
from archiver.read.reader import read_records
from archiver.read.verify import verify
from heliograph.app.deployment import Deployment
from heliograph.chaos.receiver import REFUSING_PATH
from heliograph.demo.reconcile import read_all
from heliograph.operations.deliveries import reduce_verdicts
from heliograph.store.base import ObjectStore
from heliograph.store.memory import MemoryStore
from heliograph.testing.receiver import Arrival, Receiver
from schemas.delivery import Delivery, Verdict, VerdictState, delivery_id, read_delivery, read_verdict
from schemas.errors import ArchiveBroken
from schemas.record import Position, Record
from schemas.subscription import Subscription
from schemas.topics import ARCHIVED, DEAD_LETTERS, VERDICTS, matches

_READERS = 8
"""Objects that are read at once."""
_LOGGED = "select delivery, event from logs"
"""Asked beside no archive, which would be read whole for it."""

Bodies = Mapping[str, Sequence[bytes]]
"""What one target took, by delivery id, repeats included. Callbacks of a target come to the path of its id."""


class Wrong(enum.StrEnum):
    """What can be wrong with a run."""

    LOST = "lost"
    ALTERED = "altered"
    UNKNOWN = "unknown"  # under an id that is no delivery of the run, so that nobody can tell it is a repeat
    ENDED_OTHERWISE = "ended-otherwise"
    TWICE = "twice"
    OUT_OF_ORDER = "out-of-order"
    FAILED = "failed"


class Finding(NamedTuple):
    """One thing that is wrong, in a line."""

    wrong: Wrong
    what: str

    def __str__(self) -> str:
        return f"{self.wrong}: {self.what}"


class Books(msgspec.Struct, frozen=True):
    """The end of a run. `accepted`: every value whose append returned; `log`: records of the archived topics, in the
    order of each partition; `received`: what each target took, by its id; `arrivals`: every request, in order;
    `unsound`: what the verification of the archive or its reading said."""

    log_id: str
    subscribed: Sequence[Subscription]
    accepted: Sequence[bytes]
    log: Sequence[Record]
    received: Mapping[str, Bodies]
    arrivals: Sequence[Arrival]
    archived: Sequence[Record]
    unsound: Sequence[str]

    def topic(self, pattern: str) -> Iterator[Record]:
        """The log's records of some topics."""
        return (record for record in self.log if matches(record.topic, (pattern,)))

    def verdicts(self) -> Mapping[str, Verdict]:
        """One verdict for each delivery that ended."""
        return reduce_verdicts(read_verdict(record.value) for record in self.topic(VERDICTS))


class Owed(NamedTuple):
    """A delivery that must have ended: worked out from the event and the subscriptions, not from what was routed."""

    event: Record
    target: str
    ends: VerdictState

    def __str__(self) -> str:
        return f"{self.event.position} to {self.target}"


def take(
    deployment: Deployment, receiver: Receiver, subscribed: Sequence[Subscription], accepted: Sequence[bytes]
) -> Books:
    """Read everything. Raises BusError, StoreError."""
    bus, config = deployment.bus, deployment.config
    archived, unsound = _archived(deployment)
    logged = query(MemoryStore(), _LOGGED, cache=config.home / "cache", logs=config.logs_folder)
    received: dict[str, Bodies] = {
        "queue": _grouped((_delivery(record), record.value) for record in read_all(bus, ["queue"])),
        "store": _grouped(_stored(deployment.objects)),
        "logged": _grouped((row["delivery"], row["event"].encode()) for row in logged.rows()),
    }
    for path in {arrival.path for arrival in receiver.taken}:
        called = (arrival for arrival in receiver.taken if arrival.path == path)
        received[path.lstrip("/")] = _grouped((arrival.delivery, arrival.body) for arrival in called)
    log = list(read_all(bus, ARCHIVED))
    return Books(bus.log_id, subscribed, accepted, log, received, tuple(receiver.arrivals), archived, unsound)


def findings(books: Books) -> Iterator[Finding]:
    """Everything that is wrong with a run that came to rest."""
    owed = _owed(books)
    yield from _accepted(books)
    yield from _ended(books, owed)
    for target, bodies in books.received.items():
        yield from _received(target, bodies, owed)
    yield from _archived_once(books)
    yield from _in_order(books, owed)


def repeats(books: Books) -> int:
    """How often something was taken that had been taken before."""
    return sum(len(each) - 1 for bodies in books.received.values() for each in bodies.values())


def _owed(books: Books) -> Mapping[str, Owed]:
    """Every event for every target, by delivery id."""
    return {
        delivery_id(books.log_id, event.position, subscription.name, target.id): Owed(
            event, target.id, _ends(target.settings.get("url", ""))
        )
        for event in books.topic("events.*")
        for subscription in books.subscribed
        for target in subscription.target
    }


def _ends(url: str) -> VerdictState:
    return VerdictState.DEAD if url.endswith(REFUSING_PATH) else VerdictState.DELIVERED


def _accepted(books: Books) -> Iterator[Finding]:
    """The log holds what was accepted, and nothing else."""
    accepted, held = Counter(books.accepted), Counter(record.value for record in books.topic("events.*"))
    for value in (accepted - held).elements():
        yield Finding(Wrong.LOST, f"accepted, and not in the log: {_shown(value)}")
    for value in (held - accepted).elements():
        yield Finding(Wrong.UNKNOWN, f"in the log, and not accepted: {_shown(value)}")


def _ended(books: Books, owed: Mapping[str, Owed]) -> Iterator[Finding]:
    """Each delivery has its verdict, what is delivered was received, and what is dead is kept."""
    verdicts = books.verdicts()
    letters = {one.id: one for one in map(read_delivery, books.topic(DEAD_LETTERS))}
    for identity, one in owed.items():
        verdict = verdicts.get(identity)
        if verdict is None:
            yield Finding(Wrong.LOST, f"{one}: no verdict")
        elif verdict.state is not one.ends:
            yield Finding(Wrong.ENDED_OTHERWISE, f"{one}: {verdict.state}, should be {one.ends}")
        elif one.ends is VerdictState.DEAD:
            yield from _kept(one, letters.get(identity))
        elif identity not in books.received.get(one.target, {}):
            yield Finding(Wrong.LOST, f"{one}: delivered, says its verdict, and never received")
    for identity in verdicts.keys() - owed.keys():
        yield Finding(Wrong.UNKNOWN, f"verdict of {identity}, which is no delivery of this run")


def _kept(one: Owed, letter: Delivery | None) -> Iterator[Finding]:
    if letter is None:
        yield Finding(Wrong.LOST, f"{one}: dead, and no dead letter")
    elif letter.event != one.event.value:
        yield Finding(Wrong.ALTERED, f"{one}: its dead letter holds another event")


def _received(target: str, bodies: Bodies, owed: Mapping[str, Owed]) -> Iterator[Finding]:
    """Whatever comes comes under the id of its delivery, with the bytes of its event, however often."""
    for identity, each in bodies.items():
        one = owed.get(identity)
        if one is None or one.target != target:
            yield Finding(Wrong.UNKNOWN, f"{target} received {identity}, which is no delivery to it")
        elif set(each) != {one.event.value}:
            yield Finding(Wrong.ALTERED, f"{one}: received with other bytes")


def _archived_once(books: Books) -> Iterator[Finding]:
    """The archive holds each record of the log once, as it is, and verifies."""
    log = {record.position: record for record in books.log}
    archived: dict[Position, Record] = {}
    for record in books.archived:
        if record.position in archived:
            yield Finding(Wrong.TWICE, f"{record.position} is archived more than once")
        archived[record.position] = record
        if log.get(record.position) != record:
            yield Finding(Wrong.ALTERED, f"{record.position} is archived otherwise than the log has it")
    for position in sorted(log.keys() - archived.keys()):
        yield Finding(Wrong.LOST, f"{position} is not archived")
    for what in books.unsound:
        yield Finding(Wrong.ALTERED, f"archive: {what}")


def _in_order(books: Books, owed: Mapping[str, Owed]) -> Iterator[Finding]:
    """At an ordered target the deliveries of a resource come first in the order of its events."""
    ordered = {
        target.id for subscription in books.subscribed for target in subscription.target if target.ordered
    }
    latest: dict[tuple[str, bytes | None], Position] = {}
    for identity in dict.fromkeys(arrival.delivery for arrival in books.arrivals):
        one = owed.get(identity)
        if one is not None and one.target in ordered:
            resource, position = (one.target, one.event.key), one.event.position
            before = latest.setdefault(resource, position)
            if position < before:
                yield Finding(Wrong.OUT_OF_ORDER, f"{one}: came first after that of {before}")
            latest[resource] = max(before, position)


def _archived(deployment: Deployment) -> tuple[Sequence[Record], Sequence[str]]:
    """What can be read of the archive, and what is wrong with it."""
    unsound = [str(problem) for problem in verify(deployment.archive).problems]
    records: list[Record] = []
    try:
        records.extend(read_records(deployment.archive))
    except ArchiveBroken as error:
        unsound.append(str(error))
    return records, unsound


def _stored(objects: ObjectStore) -> Iterator[tuple[str, bytes]]:
    keys = [info.key for info in objects.list("events/")]
    with ThreadPoolExecutor(_READERS) as readers:
        for key, body in zip(keys, readers.map(objects.get, keys), strict=True):
            yield key.rpartition("/")[2].removesuffix(".json"), body


def _grouped(came: Iterable[tuple[str, bytes]]) -> Bodies:
    found: dict[str, list[bytes]] = defaultdict(list)
    for delivery, body in came:
        found[delivery].append(body)
    return found


def _delivery(record: Record) -> str:
    return (record.header("delivery") or b"").decode()


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")[:120]

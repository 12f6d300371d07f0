"""The demo's books: every count that must agree, taken from the log, the archive and the receivers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from archiver.read.reader import read_records
from archiver.read.verify import verify
from heliograph.app.runner import unfinished
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.operations.deliveries import reduce_verdicts
from heliograph.store.base import ObjectStore
from schemas import topics
from schemas.delivery import Verdict, VerdictState, read_verdict
from schemas.record import Record

T = TypeVar("T", bound=Hashable)


class Check(msgspec.Struct, frozen=True):
    """One line of the books: two figures that must be the same."""

    says: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether they are."""
        return self.left == self.right


class Books(msgspec.Struct, frozen=True):
    """What the log holds at the end."""

    events: Sequence[Record]
    deliveries: Mapping[str, Record]
    verdicts: Mapping[str, Verdict]
    waiting: int


def read_all(bus: Bus, wanted: Sequence[str]) -> Iterator[Record]:
    """Every record of the topics."""
    for topic in sorted(bus.topics()):
        if topics.matches(topic, wanted):
            yield from read_topic(bus, topic)


def take(bus: Bus) -> Books:
    """Read the books. Deliveries are distinct ids, however often they went round the wheel."""
    deliveries = {
        (record.header("delivery") or b"").decode(): record for record in read_all(bus, [topics.DELIVERIES])
    }
    verdicts = reduce_verdicts(read_verdict(record.value) for record in read_all(bus, [topics.VERDICTS]))
    waiting, _ = unfinished(bus, "wheel", ("retries.*",))
    return Books(list(read_all(bus, ["events.*"])), deliveries, verdicts, waiting)


def reconcile(
    bus: Bus,
    archive: ObjectStore,
    books: Books,
    *,
    accepted: Sequence[bytes],
    received: Mapping[str, list[bytes]],
) -> list[Check]:
    """Every check of the run."""
    states = Counter(verdict.state for verdict in books.verdicts.values())
    ended = states[VerdictState.DELIVERED] + states[VerdictState.DEAD]
    hooks = [one for one in books.verdicts.values() if one.target == "webhook"]
    sent = Counter(books.deliveries[one.delivery].value for one in hooks)
    unrouted, _ = unfinished(bus, "router", ("events.*",))
    appended = Counter({topic: count for topic, count in _appended(bus).items() if count})
    archived = Counter(record.topic for record in read_records(archive))
    report = verify(archive)
    return [
        Check("accepted events = events in the log", len(accepted), len(books.events)),
        Check(
            "… with the same bytes",
            _same(Counter(accepted), Counter(one.value for one in books.events)),
            len(accepted),
        ),
        Check("events in the log = routed", len(books.events), len(books.events) - unrouted),
        Check("deliveries = delivered + dead + waiting", len(books.deliveries), ended + books.waiting),
        Check("webhook deliveries = received by the webhook", len(hooks), len(received)),
        Check("… with the same bytes", _same(sent, Counter(one[0] for one in received.values())), len(hooks)),
        Check("records appended = records archived", appended.total(), archived.total()),
        Check("… topic by topic", _same(appended, archived), appended.total()),
        Check(
            "archive verify: records proven = records archived",
            report.records if report.sound else 0,
            archived.total(),
        ),
    ]


def _appended(bus: Bus) -> Counter[str]:
    return Counter(
        {
            topic: sum(extent.end for extent in bus.extents(topic).values())
            for topic in bus.topics()
            if topics.matches(topic, topics.ARCHIVED)
        }
    )


def _same(left: Counter[T], right: Counter[T]) -> int:
    """How many of two multisets are in both."""
    return (left & right).total()

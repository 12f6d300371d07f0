"""Proving an archive, with nothing but its objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from archiver.chain import Tail, object_sha256, tail_after
from archiver.formats import avro
from archiver.naming import ROOT, parse_key, topic_prefix
from archiver.segment import SegmentHeader, problem_of
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken, ObjectMissing


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong with a chain."""

    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, and the first thing wrong of each chain. `lost_offsets`: those of recorded gaps."""

    chains: int = 0
    segments: int = 0
    records: int = 0
    lost_offsets: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def line(self) -> str:
        """The report for a person: one line, and one more for each problem."""
        counts = f"{self.records} records in {self.segments} segments of {self.chains} chains"
        lost = f", {self.lost_offsets} offsets in recorded gaps" if self.lost_offsets else ""
        head = f"archive {'verified' if self.sound else 'BROKEN'}: {counts}{lost}"
        return "\n".join([head, *map(str, self.problems)])

    def row(self) -> dict[str, object]:
        """The report for a machine."""
        return {
            "sound": self.sound,
            "chains": self.chains,
            "segments": self.segments,
            "records": self.records,
            "lost_offsets": self.lost_offsets,
            "problems": [{"key": problem.key, "why": problem.why} for problem in self.problems],
        }


def verify(
    store: ObjectStore, topic: str | None = None, expect_head: Mapping[str, str] | None = None
) -> Report:
    """Check every segment and chain, of one topic or of all.

    `expect_head`: keys and sha256 that `heads` gave earlier. Each must still be there, so that a chain whose end was
    cut off is found, which nothing else in the archive tells. After the first problem of a chain, its rest is not
    checked.
    """
    report = Report()
    for _, found in groupby(_keys(store, topic), key=_folder):
        report = _added(report, _verify_chain(store, list(found)))
    missing = [
        Problem(key, why)
        for key, sha256 in (expect_head or {}).items()
        if (why := _head_problem(store, key, sha256))
    ]
    known = {problem.key for problem in report.problems}
    return _added(report, Report(problems=tuple(each for each in missing if each.key not in known)))


def heads(store: ObjectStore, topic: str | None = None) -> Iterator[Tail]:
    """The end of each chain: `key` and `object_sha256` are what `verify` takes as `expect_head`."""
    for _, found in groupby(filter(parse_key, _keys(store, topic)), key=_folder):
        *_, key = found
        body = store.get(key)
        yield tail_after(key, avro.read_header(body), object_sha256(body))


def _verify_chain(store: ObjectStore, keys: list[str]) -> Report:
    """Walk a chain from its first object, holding each against what the one before it says must come."""
    report = Report(chains=1)
    tail: Tail | None = None
    for key in keys:
        try:
            header, tail = _verify_segment(store, key, tail)
        except (ArchiveBroken, ObjectMissing) as error:
            return _added(report, Report(problems=(Problem(key, str(error)),)))
        lost = sum(end - start for start, end in header.gaps)
        report = _added(report, Report(segments=1, records=header.count, lost_offsets=lost))
    return report


def _verify_segment(store: ObjectStore, key: str, tail: Tail | None) -> tuple[SegmentHeader, Tail]:
    """Check an object behind a tail; returns its header and the tail that it leaves."""
    name = parse_key(key)
    if name is None:
        raise ArchiveBroken("not the key of a segment")
    if tail is None:
        tail = Tail("", name.topic, name.partition)
    if key != tail.next_key:
        raise ArchiveBroken(
            f"a segment is missing before it, or it is one too many: {tail.next_key} comes next"
        )
    body = store.get(key)
    segment = avro.decode(body)
    header = segment.header
    first = not tail.key
    for field, expected in (
        ("topic", tail.topic),
        ("partition", tail.partition),
        ("epoch", tail.epoch),
        ("expected_offset", tail.expected_offset),
        ("previous_sha256", tail.object_sha256),
        ("log_id", header.log_id if first else tail.log_id),
    ):
        if getattr(header, field) != expected:
            raise ArchiveBroken(
                f"its header says {field} {getattr(header, field)!r}, and it must be {expected!r}"
            )
    problem = problem_of(segment)
    if problem:
        raise ArchiveBroken(problem)
    return header, tail_after(key, header, object_sha256(body))


def _head_problem(store: ObjectStore, key: str, sha256: str) -> str:
    try:
        found = object_sha256(store.get(key))
    except ObjectMissing:
        return "was the head of its chain, and is gone: the end of the chain is cut off"
    return "" if found == sha256 else f"was the head of its chain with sha256 {sha256}, and now has {found}"


def _keys(store: ObjectStore, topic: str | None) -> Iterator[str]:
    return (info.key for info in store.list(topic_prefix(topic) if topic else ROOT))


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _added(one: Report, two: Report) -> Report:
    return Report(
        one.chains + two.chains,
        one.segments + two.segments,
        one.records + two.records,
        one.lost_offsets + two.lost_offsets,
        one.problems + two.problems,
    )

"""Verifies an archive from its objects alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from archiver.format.canonical import object_sha256
from archiver.format.naming import ROOT, parse_key, topic_prefix
from archiver.format.segment import SegmentHeader, find_problem
from archiver.format.segments import decode_segment, read_segment_header
from archiver.read.compacted import CompactedRecords, find_covered_problem, read_file
from archiver.read.ledger import Covered, Ledger, read_ledger
from archiver.read.reader import list_objects
from archiver.write.chain import Tail, tail_after
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken, ObjectMissing


@dataclass(frozen=True, slots=True)
class Problem:
    """The first problem of a chain."""

    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Counts of what was verified, and the first problem of each chain.

    `records` counts whole records, `erased` those without their content, `retired` those that retention removed.
    `compacted`: segments in Parquet files. `lost_offsets`: offsets in recorded gaps.
    """

    chains: int = 0
    segments: int = 0
    records: int = 0
    lost_offsets: int = 0
    compacted: int = 0
    erased: int = 0
    retired: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def sound(self) -> bool:
        """True if there are no problems."""
        return not self.problems

    def line(self) -> str:
        """Formats the result for a person: one line, and one more for each problem."""
        counts = f"{self.records} records in {self.segments} segments of {self.chains} chains"
        lost = f", {self.lost_offsets} offsets in recorded gaps" if self.lost_offsets else ""
        also = "".join(
            f", {count} {what}"
            for what, count in (
                ("segments in Parquet", self.compacted),
                ("records erased", self.erased),
                ("records retired", self.retired),
            )
            if count
        )
        head = f"archive {'verified' if self.sound else 'BROKEN'}: {counts}{also}{lost}"
        return "\n".join([head, *map(str, self.problems)])

    def row(self) -> dict[str, object]:
        """Returns the result as one JSON object."""
        return {
            "sound": self.sound,
            "chains": self.chains,
            "segments": self.segments,
            "records": self.records,
            "lost_offsets": self.lost_offsets,
            "compacted": self.compacted,
            "erased": self.erased,
            "retired": self.retired,
            "problems": [{"key": problem.key, "why": problem.why} for problem in self.problems],
        }


def verify(
    store: ObjectStore, topic: str | None = None, expect_head: Mapping[str, str] | None = None
) -> Verification:
    """Verifies every segment and chain, of one topic or of all.

    `expect_head`: keys and sha256 from an earlier `find_heads`. They must still be there; only this detects a chain whose
    end was cut off. After the first problem of a chain, its rest is not verified.
    """
    report = Verification()
    for name, found in groupby(_keys(store, topic), key=_topic):
        report = _added(report, _verify_topic(store, name, list(found)))
    missing = [
        Problem(key, why)
        for key, sha256 in (expect_head or {}).items()
        if (why := _find_head_problem(store, key, sha256))
    ]
    known = {problem.key for problem in report.problems}
    return _added(report, Verification(problems=tuple(each for each in missing if each.key not in known)))


def find_heads(store: ObjectStore, topic: str | None = None) -> Iterator[Tail]:
    """Returns the end of each chain; its `key` and `object_sha256` serve `verify` as `expect_head`."""
    for _, found in groupby(filter(parse_key, _keys(store, topic)), key=_folder):
        *_, key = found
        body = store.get(key)
        yield tail_after(key, read_segment_header(key, body), object_sha256(body))


def find_manifest_heads(store: ObjectStore, topic: str | None = None) -> Iterator[tuple[str, str]]:
    """Returns key and sha256 of each topic's last manifest, which serve `verify` as `expect_head` too.

    They prove what was compacted, retired and erased; the heads of chains prove the segments that are still objects.
    """
    for name, _ in list_objects(store, topic):
        ledger = read_ledger(store, name)
        if ledger.key:
            yield ledger.key, ledger.sha256


def _verify_topic(store: ObjectStore, topic: str, keys: list[str]) -> Verification:
    """Verifies a topic's manifests, then its Parquet files, then each chain. `keys` were listed before the manifests."""
    try:
        ledger = read_ledger(store, topic)
    except (ArchiveBroken, ObjectMissing) as error:
        key, _, why = str(error).partition(": ")
        return Verification(problems=(Problem(key, why),))
    compacted = _Compacted(ledger, _file_problems(store, ledger))
    report = Verification(retired=ledger.retired_records)
    chains: dict[str, set[str]] = {}
    for key in [*keys, *(each.source.key for each in ledger.live())]:
        if not ledger.is_retired(key):
            chains.setdefault(_folder(key), set()).add(key)
    last = {_folder(key): key for key in keys}
    for folder in sorted(chains):
        report = _added(report, _verify_chain(store, compacted, sorted(chains[folder]), last.get(folder, "")))
    return report


@dataclass(frozen=True, slots=True)
class _Compacted:
    """A topic's ledger, and the problems of compacted segments by key; a problem names the Parquet file."""

    ledger: Ledger
    problems: Mapping[str, Problem]


def _file_problems(store: ObjectStore, ledger: Ledger) -> dict[str, Problem]:
    """Compares every file with its manifest and its segments; returns the problems by segment."""
    found: dict[str, Problem] = {}
    members: dict[int, list[Covered]] = {}
    for each in ledger.live():
        members.setdefault(each.file, []).append(each)
    for place, segments in members.items():
        file = ledger.files[place]
        try:
            records = CompactedRecords(ledger.topic, read_file(store, file))
            if len(records) != file.records:
                raise ArchiveBroken(f"has {len(records)} records, but its manifest says {file.records}")  # noqa: TRY301
            problems = {each.source.key: find_covered_problem(records, each) for each in segments}
        except (ArchiveBroken, ObjectMissing) as error:
            why = str(error).removeprefix(f"{file.key}: ")
            problems = dict.fromkeys((each.source.key for each in segments), why)
        found |= {key: Problem(file.key, f"{key}: {why}") for key, why in problems.items() if why}
    return found


def _verify_chain(store: ObjectStore, compacted: _Compacted, keys: list[str], last: str) -> Verification:
    """Walks a chain from its beginning, and compares each segment with the link of the one before it.

    `last`: the last key of the chain that is an object; the archiver finds the end of the chain by it.
    """
    report = Verification(chains=1)
    tail: Tail | None = None
    for key in keys:
        covered = compacted.ledger.covered.get(key)
        try:
            tail = tail or _beginning(compacted.ledger, key)
            if covered is None:
                header, tail = _verify_segment(store, key, tail)
            elif key in compacted.problems:
                return _added(report, Verification(problems=(compacted.problems[key],)))
            else:
                header, tail = _verify_covered(covered, tail)
        except (ArchiveBroken, ObjectMissing) as error:
            return _added(report, Verification(problems=(Problem(key, str(error).removeprefix(f"{key}: ")),)))
        lost = sum(end - start for start, end in header.gaps)
        erased = len(covered.erased.offsets) if covered and covered.erased else 0
        report = _added(
            report,
            Verification(
                segments=1,
                records=header.count - erased,
                lost_offsets=lost,
                compacted=1 if covered else 0,
                erased=erased,
            ),
        )
    why = _find_last_problem(store, tail, last)
    return _added(report, Verification(problems=(Problem(keys[-1], why),))) if why else report


def _find_last_problem(store: ObjectStore, tail: Tail | None, last: str) -> str | None:
    if tail is None or tail.key == last:
        found = object_sha256(store.get(last)) if last else ""
        if tail is None or found == tail.object_sha256:
            return None
        return "its object differs from its manifest, and the next segment would link to it"
    return "is the end of the chain, and its object is gone: the archiver would start a new chain"


def _beginning(ledger: Ledger, key: str) -> Tail:
    """Returns the beginning of a chain: offset 0, or the first offset that retention left."""
    name = parse_key(key)
    if name is None:
        raise ArchiveBroken("not the key of a segment")
    begin = ledger.retired.get(name.partition)
    if begin is None:
        return Tail("", name.topic, name.partition)
    return Tail(
        begin.log_id,
        name.topic,
        name.partition,
        epoch=begin.epoch,
        expected_offset=begin.next_offset,
        key=begin.key,
        object_sha256=begin.object_sha256,
    )


def _verify_segment(store: ObjectStore, key: str, tail: Tail) -> tuple[SegmentHeader, Tail]:
    """Verifies a segment object against the chain that ends at `tail`; returns its header and the new tail."""
    _check_key(key, tail)
    body = store.get(key)
    segment = decode_segment(key, body)
    _check_place(segment.header, tail)
    problem = find_problem(segment)
    if problem:
        raise ArchiveBroken(problem)
    return segment.header, tail_after(key, segment.header, object_sha256(body))


def _verify_covered(covered: Covered, tail: Tail) -> tuple[SegmentHeader, Tail]:
    """Verifies a compacted segment's place in its chain; its records were verified with their file."""
    source = covered.source
    _check_key(source.key, tail)
    _check_place(source.header, tail)
    return source.header, tail_after(source.key, source.header, source.object_sha256)


def _check_key(key: str, tail: Tail) -> None:
    if parse_key(key) is None:
        raise ArchiveBroken("not the key of a segment")
    if parse_key(key) != parse_key(tail.next_key):
        raise ArchiveBroken(f"expected {tail.next_key} here: that segment is missing, or this one is extra")


def _check_place(header: SegmentHeader, tail: Tail) -> None:
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
            raise ArchiveBroken(f"its header has {field} {getattr(header, field)!r}, expected {expected!r}")


def _find_head_problem(store: ObjectStore, key: str, sha256: str) -> str | None:
    """Returns the problem of a head; None if it is there, or was compacted or retired since."""
    name = parse_key(key)
    try:
        ledger = read_ledger(store, name.topic) if name else None
        if ledger and ledger.is_retired(key):
            return None
        covered = ledger.covered.get(key) if ledger else None
        found = covered.source.object_sha256 if covered else object_sha256(store.get(key))
    except ObjectMissing:
        return "was the head of its chain, and is gone: the end of the chain is cut off"
    except ArchiveBroken:
        return None  # reported already
    return None if found == sha256 else f"was the head of its chain with sha256 {sha256}, and now has {found}"


def _topic(key: str) -> str:
    return key.split("/")[1]


def _keys(store: ObjectStore, topic: str | None) -> Iterator[str]:
    return (info.key for info in store.list(topic_prefix(topic) if topic else ROOT))


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _added(one: Verification, two: Verification) -> Verification:
    return Verification(
        chains=one.chains + two.chains,
        segments=one.segments + two.segments,
        records=one.records + two.records,
        lost_offsets=one.lost_offsets + two.lost_offsets,
        compacted=one.compacted + two.compacted,
        erased=one.erased + two.erased,
        retired=one.retired + two.retired,
        problems=one.problems + two.problems,
    )

"""Compaction of closed days, under kills and races."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.format.manifest import DAY, file_made, manifest_key, manifests_prefix
from archiver.format.segment import Draft
from archiver.maintain.compaction import CompactionPolicy
from archiver.maintain.removal import ORPHAN_AGE
from archiver.read.reader import list_segments
from archiver.read.verify import find_heads, find_manifest_heads, verify
from archiver.write.chain import Lost, Tail, append_segment, find_tail
from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from heliograph.store.memory import MemoryStore
from schemas.errors import ArchiveBroken, StoreUnavailable
from schemas.record import Record
from tests.archiver.compacting import (
    FIRST_DAY,
    HOUR,
    SMALL,
    START,
    WatchedStore,
    add,
    clean,
    dying,
    fill,
    keys,
    records_of,
    run,
)
from tests.archiver.making import LOG, TOPIC, record, record_lists
from tests.archiver.stores import Crash


def is_manifest(key: str) -> bool:
    return key.startswith(manifests_prefix(TOPIC))


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return MemoryStore() if request.param == "memory" else FolderStore(tmp_path / "archive")


def test_closed_days_become_parquet_and_nothing_changes_for_readers(store: ObjectStore) -> None:
    before = fill(store)
    segments = [(info.key, info.read_header()) for info in list_segments(store)]
    plain = verify(store)
    done = run(store, 2.5)
    assert [(day.day, day.generation, day.segments) for day in done] == [
        (FIRST_DAY, 1, 8),
        ("2024-01-02", 1, 4),
    ]
    for _ in range(2):
        assert records_of(store) == before
        assert [(info.key, info.read_header()) for info in list_segments(store)] == segments
        report = verify(store)
        assert report.sound, report.line()
        assert (report.segments, report.records, report.compacted) == (plain.segments, plain.records, 12)
        assert clean(store, 3).waiting == 0
    assert len(keys(store, "topics/")) == 2


def test_each_loaded_segment_is_what_was_archived(store: ObjectStore) -> None:
    fill(store)
    before = [info.load() for info in list_segments(store)]
    run(store, 2.5)
    clean(store, 3)
    assert [info.load() for info in list_segments(store)] == before


def test_a_day_is_closed_some_hours_after_its_end(store: ObjectStore) -> None:
    fill(store)
    assert run(store, 1.2) == []
    assert [day.day for day in run(store, 1.25)] == [FIRST_DAY]
    assert [day.day for day in run(store, 2, CompactionPolicy(closed_after=0))] == ["2024-01-02"]
    assert run(store, 2.5) == []


def test_segments_are_removed_after_the_grace_period(store: ObjectStore) -> None:
    fill(store)
    run(store, 2.5)
    waiting = clean(store, 2.6, grace=DAY)
    assert (waiting.segments, waiting.waiting) == (0, 12)
    assert clean(store, 3.5, grace=DAY).segments == 12
    assert clean(store, 3.5, grace=DAY).segments == 0


def test_a_compacted_tail_is_kept_until_another_segment_follows(store: ObjectStore) -> None:
    tail = add(store, 0)
    run(store, 2)
    assert clean(store, 3).segments == 0
    assert find_tail(store, TOPIC, 0) == tail
    add(store, 2 * DAY)
    assert clean(store, 3).segments == 1
    assert verify(store).sound
    assert len(records_of(store)) == 2


def test_late_records_of_a_day_make_another_generation(store: ObjectStore) -> None:
    fill(store)
    run(store, 2.5)
    clean(store, 2.5)
    add(store, 5 * HOUR)
    add(store, 2 * DAY + 2 * HOUR)
    before = records_of(store)
    assert [(day.day, day.generation) for day in run(store, 3)] == [(FIRST_DAY, 2)]
    clean(store, 3)
    assert records_of(store) == before
    assert verify(store).sound


def test_files_are_split_and_sorted_by_time(store: ObjectStore) -> None:
    fill(store)
    done = run(store, 2.5)
    assert [day.files for day in done] == [4, 3]
    assert all(day.records <= 5 * day.files for day in done)


def test_reading_by_time_reads_no_other_file(store: ObjectStore) -> None:
    before = fill(store)
    run(store, 2.5)
    clean(store, 3)
    read: list[str] = []
    watched = WatchedStore(store, before=lambda operation, key: read.append(f"{operation} {key}"))
    since, until = START + DAY, START + DAY + HOUR
    assert records_of(watched, since, until) == [one for one in before if since <= one.timestamp < until]
    assert not any(FIRST_DAY in one for one in read)


def test_a_file_is_read_once_however_many_partitions_it_holds(store: ObjectStore) -> None:
    before = fill(store)
    run(store, 2.5, CompactionPolicy())
    clean(store, 3)
    read: list[str] = []
    watched = WatchedStore(store, before=lambda _, key: read.append(key))
    assert records_of(watched) == before
    files = [key for key in read if file_made(key)]
    assert len(files) == len(set(files)) == 2


@settings(max_examples=40)
@given(record_lists().filter(bool))
def test_records_of_any_bytes_are_read_back_after_compaction(records: list[Record]) -> None:
    store = MemoryStore()
    records = [
        Record(TOPIC, 0, at, min(each.timestamp, START), each.key, each.headers, each.value)
        for at, each in enumerate(records)
    ]
    append_segment(store, Tail(LOG, TOPIC, 0), Draft(records, len(records)))
    add(store, DAY)
    run(store, 1.5)
    clean(store, 2)
    assert records_of(store)[: len(records)] == records
    assert verify(store).sound


def test_headers_that_repeat_keep_their_order(store: ObjectStore) -> None:
    many = (("a", b"1"), ("b", b""), ("a", b"2"), ("a", b"1"))
    one = Record(TOPIC, 0, 0, START, None, many, b"")
    append_segment(store, Tail(LOG, TOPIC, 0), Draft([one], 1))
    add(store, DAY)
    run(store, 1.5)
    clean(store, 2)
    assert records_of(store)[0] == one


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=4))
def test_a_kill_at_any_point_loses_and_repeats_nothing(kills: list[tuple[int, bool]]) -> None:
    store = MemoryStore()
    before = fill(store)
    for operations, after in kills:
        try:
            run(dying(store, operations, after=after), 2.5)
            clean(dying(store, operations, after=after), 2.5)
        except Crash:
            pass
        assert records_of(store) == before
        assert verify(store).sound
    run(store, 2.6)
    clean(store, 2.6 + ORPHAN_AGE / DAY)
    assert records_of(store) == before
    report = verify(store)
    assert report.sound
    assert report.compacted == 12
    assert len(keys(store, "topics/")) == 2
    named = {info.file.key for info in list_segments(store) if info.file}
    assert {key for key in keys(store, "compacted/") if file_made(key)} == named


def test_the_kill_test_covers_every_operation() -> None:
    """The property test above draws from all operations."""
    store = MemoryStore()
    fill(store)
    count = 0

    def step(_operation: str, _key: str) -> None:
        nonlocal count
        count += 1

    run(WatchedStore(store, before=step), 2.5)
    assert 40 < count < 90


@pytest.mark.parametrize("meanwhile", [1, 2])
def test_of_two_compactors_one_wins(store: ObjectStore, meanwhile: int) -> None:
    before = fill(store)
    puts = 0

    def race(operation: str, key: str) -> None:
        nonlocal puts
        if operation == "put_new" and is_manifest(key):
            puts += 1
            if puts == meanwhile:
                run(store, 2.5)
                clean(store, 2.5)

    run(WatchedStore(store, before=race), 2.5)
    assert records_of(store) == before
    assert verify(store).sound
    assert list(filter(is_manifest, keys(store, "compacted/"))) == [
        manifest_key(TOPIC, 1),
        manifest_key(TOPIC, 2),
    ]
    named = {info.file.key for info in list_segments(store) if info.file}
    assert {key for key in keys(store, "compacted/") if file_made(key)} == named, (
        "the loser took its files away"
    )


@pytest.mark.parametrize("moment", range(12))
def test_a_reader_during_compaction_sees_every_record_once(store: ObjectStore, moment: int) -> None:
    before = fill(store)
    at = 0

    def meddle(_operation: str, _key: str) -> None:
        nonlocal at
        at += 1
        if at == moment + 1:
            run(store, 2.5)
            clean(store, 2.5, grace=DAY)
            add(store, 2 * DAY + HOUR)

    watched = WatchedStore(store, before=meddle)
    assert [one for one in records_of(watched) if one in before] == before


@pytest.mark.parametrize("moment", range(12))
def test_verify_during_compaction_finds_no_problem(store: ObjectStore, moment: int) -> None:
    fill(store)
    at = 0

    def meddle(_operation: str, _key: str) -> None:
        nonlocal at
        at += 1
        if at == moment + 1:
            run(store, 2.5)

    report = verify(WatchedStore(store, before=meddle))
    assert report.sound, report.line()


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_change_of_any_byte_is_found(which: float, where: float, bit: int) -> None:
    store = MemoryStore()
    fill(store)
    run(store, 2.5)
    clean(store, 3)
    every = keys(store)
    key = every[int(which * len(every))]
    body = bytearray(store.get(key))
    body[int(where * len(body))] ^= 1 << bit
    store.put(key, bytes(body))
    report = verify(store)
    assert not report.sound
    assert report.problems[0].key == key


def test_a_missing_object_is_found(store: ObjectStore) -> None:
    fill(store)
    run(store, 2.5)
    clean(store, 3)
    heads_before = dict(find_manifest_heads(store)) | {
        head.key: head.object_sha256 for head in find_heads(store)
    }
    for key in keys(store):
        body = store.get(key)
        store.delete(key)
        assert not verify(store, expect_head=heads_before).sound, key
        store.put(key, body)
    assert verify(store, expect_head=heads_before).sound


def test_a_head_that_was_compacted_since_verifies(store: ObjectStore) -> None:
    fill(store)
    old = {head.key: head.object_sha256 for head in find_heads(store)}
    add(store, 3 * DAY)
    add(store, 3 * DAY, partition=1)
    run(store, 4)
    clean(store, 4)
    assert verify(store, expect_head=old).sound
    assert not verify(store, expect_head=dict.fromkeys(old, "0" * 64)).sound


def test_a_changed_tail_that_was_compacted_is_found(store: ObjectStore) -> None:
    tail = add(store, 0)
    run(store, 2)
    store.put(tail.key, store.get(tail.key)[:-1])
    assert not verify(store).sound
    store.delete(tail.key)
    add(store, 0, partition=1)
    [problem] = verify(store).problems
    assert "its object is gone" in problem.why


def test_a_damaged_segment_is_not_compacted(store: ObjectStore) -> None:
    fill(store)
    key = next(iter(keys(store)))
    store.put(key, store.get(key)[:-1])
    with pytest.raises(ArchiveBroken, match="damaged: its bytes do not match"):
        run(store, 2.5)
    assert not keys(store, "compacted/")


def test_a_broken_chain_is_not_compacted(store: ObjectStore) -> None:
    fill(store)
    store.delete(keys(store)[1])
    with pytest.raises(ArchiveBroken, match="does not link to"):
        run(store, 2.5)
    assert not keys(store, "compacted/")


def test_a_store_that_returns_other_bytes_is_found_before_the_commit(store: ObjectStore) -> None:
    before = fill(store)

    def spoil(operation: str, key: str) -> None:
        if operation == "put_new" and file_made(key):
            store.put(key, store.get(key)[:-1] + b"\0")

    with pytest.raises(ArchiveBroken, match="damaged: its bytes do not match"):
        run(WatchedStore(store, after=spoil), 2.5)
    assert not keys(store, "compacted/")
    assert records_of(store) == before


def test_a_writer_that_slept_through_a_compaction_archives_nothing_twice(store: ObjectStore) -> None:
    asleep = add(store, 0)
    add(store, 1, 2, 3)
    add(store, DAY)
    tail = add(store, 2 * DAY)
    run(store, 2.5)
    clean(store, 2.5)
    before = records_of(store)
    draft = Draft([record(1, timestamp=START + 1)], 2)
    assert append_segment(store, asleep, draft) == Lost(tail)
    assert append_segment(store, asleep, draft) == Lost(tail)
    assert records_of(store) == before
    report = verify(store)
    assert report.sound, report.line()
    assert clean(store, 3).segments == 1


class Denying(MemoryStore):
    """Reports that a manifest exists, though it has just stored this one itself."""

    def put_new(self, key: str, body: bytes) -> bool:
        return super().put_new(key, body) and not is_manifest(key)


def test_a_manifest_that_was_stored_by_a_failed_put_is_committed() -> None:
    store = Denying()
    before = fill(store)
    assert len(run(store, 2.5)) == 2
    clean(store, 3)
    assert records_of(store) == before
    assert verify(store).sound


def test_a_lost_answer_to_a_manifest_loses_nothing() -> None:
    store = MemoryStore()
    before = fill(store)

    def lose(operation: str, key: str) -> None:
        if operation == "put_new" and is_manifest(key):
            raise StoreUnavailable("the answer was lost")

    with pytest.raises(StoreUnavailable):
        run(WatchedStore(store, after=lose), 2.5)
    assert [day.day for day in run(store, 2.5)] == ["2024-01-02"]
    clean(store, 4)
    assert records_of(store) == before
    assert verify(store).sound


def test_a_young_file_without_a_manifest_is_kept(store: ObjectStore) -> None:
    fill(store)
    with pytest.raises(Crash):
        run(dying(store, 30), 2.5)
    files = [key for key in keys(store, "compacted/") if file_made(key)]
    assert files
    assert clean(store, 3).orphans == 0
    assert clean(store, 3.6).orphans == len(files)


def test_a_year_of_a_quiet_topic_is_some_hundreds_of_objects() -> None:
    store = MemoryStore()
    for day in range(365):
        for hour in (0, 9, 17):
            add(store, day * DAY + hour * HOUR, partition=hour % 2)
        if day % 30 == 7:
            run(store, day, SMALL)
            clean(store, day)
    run(store, 366)
    clean(store, 366)
    assert len(records_of(store)) == 3 * 365
    assert verify(store).sound
    assert len(keys(store)) == 365 + 365 + 2

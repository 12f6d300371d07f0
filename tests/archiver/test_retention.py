"""Retention: removal from the beginnings of chains."""

from __future__ import annotations

import pytest

from archiver.format.manifest import DAY
from archiver.format.segment import Draft
from archiver.maintain.removal import remove
from archiver.maintain.retention import Retirement, plan_retirement, retire
from archiver.read.reader import list_segments
from archiver.read.verify import find_heads, verify
from archiver.write.chain import Lost, append_segment
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from tests.archiver.compacting import (
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
from tests.archiver.making import TOPIC, record
from tests.archiver.stores import Crash

NOW = ManualClock(START + 10 * DAY)


def retire_before(store: MemoryStore | WatchedStore, day: float) -> Retirement:
    return retire(store, NOW, TOPIC, START + round(day * DAY))


@pytest.mark.parametrize("compacted", [False, True])
def test_older_segments_are_removed_and_the_rest_verifies(*, compacted: bool) -> None:
    store = MemoryStore()
    fill(store)
    if compacted:
        run(store, 2.5)
        clean(store, 3)
    before, objects = records_of(store), keys(store)
    done = plan_retirement(store, TOPIC, START + 2 * DAY)
    assert (done.chains, done.segments, done.records) == (2, 12, 24)
    assert keys(store) == objects, "asking changes nothing"
    assert retire_before(store, 2) == done
    assert records_of(store) == [one for one in before if one.timestamp >= START + 2 * DAY]
    report = verify(store)
    assert report.sound, report.line()
    assert (report.segments, report.records, report.retired) == (2, 2, 24)
    clean(store, 11)
    assert verify(store) == report
    assert len(keys(store)) == 2 + (3 if compacted else 1)
    assert retire_before(store, 2).segments == 0


def test_only_the_beginning_of_a_chain_is_removed() -> None:
    store = MemoryStore()
    add(store, 0)
    add(store, DAY)
    add(store, 1)
    add(store, 3 * DAY)
    assert retire_before(store, 1).segments == 1
    assert [info.expected_offset for info in list_segments(store)] == [1, 2, 3]


def test_a_compacted_file_is_removed_as_a_whole_or_kept() -> None:
    store = MemoryStore()
    add(store, 0)
    add(store, HOUR)
    add(store, 0, partition=1)
    add(store, 2 * HOUR, partition=1)
    for partition in (0, 1):
        add(store, DAY, partition=partition)
    run(store, 1.5, SMALL)
    assert retire(store, NOW, TOPIC, START + HOUR + 1).segments == 0
    assert retire(store, NOW, TOPIC, START + 2 * HOUR + 1).segments == 4
    clean(store, 11)
    assert verify(store).sound


def test_the_tail_is_never_removed() -> None:
    store = MemoryStore()
    tail = add(store, 0)
    assert retire_before(store, 9).segments == 0
    run(store, 2)
    assert retire_before(store, 9).segments == 0
    clean(store, 11)
    assert [head.key for head in find_heads(store)] == [tail.key]
    assert add(store, DAY).expected_offset == 2
    assert verify(store).sound


def test_chains_grow_after_retention_and_are_retired_again() -> None:
    store = MemoryStore()
    for day in range(6):
        add(store, day * DAY)
        retire_before(store, day - 1)
        clean(store, day, grace=-DAY * 20)
        assert verify(store).sound
    assert [info.expected_offset for info in list_segments(store)] == [4, 5]
    assert len(keys(store, "topics/")) == 2


def test_a_head_that_was_retired_since_verifies() -> None:
    store = MemoryStore()
    add(store, 0)
    old = {head.key: head.object_sha256 for head in find_heads(store)}
    add(store, DAY)
    retire_before(store, 1)
    clean(store, 11)
    assert verify(store, expect_head=old).sound


def test_a_writer_that_slept_through_a_retention_archives_nothing_twice() -> None:
    store = MemoryStore()
    asleep = add(store, 0)
    add(store, 1, 2)
    tail = add(store, DAY)
    retire_before(store, 1)
    clean(store, 11)
    assert append_segment(store, asleep, Draft([record(1)], 2)) == Lost(tail)
    assert len(records_of(store)) == 1
    assert verify(store).sound
    assert remove(store, TOPIC, START + 11 * DAY, 0).segments == 1


@pytest.mark.parametrize("operations", range(0, 40, 3))
def test_a_kill_at_any_point_leaves_it_done_or_not(operations: int) -> None:
    store = MemoryStore()
    before = fill(store)
    run(store, 2.5)
    left = [one for one in before if one.timestamp >= START + 2 * DAY]
    try:
        retire_before(dying(store, operations), 2)
        clean(dying(store, operations), 11)
    except Crash:
        pass
    assert records_of(store) in (before, left)
    assert verify(store).sound
    retire_before(store, 2)
    clean(store, 11)
    assert records_of(store) == left
    assert verify(store).sound


def test_a_compaction_that_was_first_makes_it_start_again() -> None:
    store = MemoryStore()
    fill(store)
    raced = False

    def race(operation: str, key: str) -> None:
        nonlocal raced
        if operation == "put_new" and not raced:
            raced = True
            run(store, 2.5)

    assert retire(WatchedStore(store, before=race), NOW, TOPIC, START + 2 * DAY).segments == 12
    assert verify(store).sound

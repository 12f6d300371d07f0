"""Erasure of the contents of records."""

from __future__ import annotations

import pytest

from archiver.format.manifest import DAY, file_made
from archiver.format.segment import ERASED, is_erased
from archiver.maintain.erasure import Selector, erase, plan_erasure, select_resource, select_user
from archiver.read.reader import list_segments
from archiver.read.verify import find_manifest_heads, verify
from heliograph.store.base import ObjectStore
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.record import Record
from tests.archiver.compacting import START, WatchedStore, add, clean, dying, fill, keys, records_of, run
from tests.archiver.making import TOPIC
from tests.archiver.stores import Crash

ARN = "acs:ecs:cn-hangzhou:1690:disk/d-1"
VALUE = b'{"resourceId":"acs:ecs:cn-hangzhou:1690:disk/d-1","userId":"1690"}'
NOW = ManualClock(START + 3 * DAY)


def erase_now(store: ObjectStore, wanted: Selector | None = None) -> int:
    return erase(store, NOW, TOPIC, wanted or select_resource(ARN), reason="asked for").records


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    add(store, 0, 5, value=VALUE)
    fill(store)
    run(store, 2.5)
    clean(store, 2.5)
    return store


def test_erased_records_keep_their_positions_without_content(store: MemoryStore) -> None:
    before = records_of(store)
    files = {key for key in keys(store) if file_made(key)}
    assert plan_erasure(store, TOPIC, select_resource(ARN)).records == 2
    assert records_of(store) == before
    assert erase_now(store) == 2
    after = records_of(store)
    assert after[2:] == before[2:]
    assert after[:2] == [
        Record(TOPIC, 0, one.offset, one.timestamp, None, ((ERASED, b"1"),), b"") for one in before[:2]
    ]
    report = verify(store)
    assert report.sound, report.line()
    assert (report.records, report.erased) == (len(before) - 2, 2)
    assert clean(store, 3).files == 1
    assert len({key for key in keys(store) if file_made(key)} & files) == len(files) - 1
    assert verify(store) == report
    assert records_of(store) == after
    assert erase_now(store) == 0


def test_headers_still_describe_the_archived_records_after_erasure(store: MemoryStore) -> None:
    before = [info.read_header() for info in list_segments(store)]
    erase_now(store)
    assert [info.read_header() for info in list_segments(store)] == before


def test_erasing_again_adds_to_what_was_erased(store: MemoryStore) -> None:
    erase_now(store, lambda record: record.offset == 0)
    erase_now(store, lambda record: record.offset == 1)
    report = verify(store)
    assert report.sound, report.line()
    assert report.erased == 4
    clean(store, 9)
    assert verify(store) == report


def test_records_not_compacted_yet_are_counted_and_wait() -> None:
    store = MemoryStore()
    add(store, 0, value=VALUE)
    add(store, DAY, value=VALUE)
    assert erase(store, NOW, TOPIC, select_resource(ARN), reason="").waiting == 2
    run(store, 3)
    done = erase(store, NOW, TOPIC, select_resource(ARN), reason="")
    assert (done.records, done.waiting) == (2, 1), "the tail is an object as well"
    add(store, 2 * DAY)
    clean(store, 4)
    assert erase(store, NOW, TOPIC, select_resource(ARN), reason="").waiting == 0
    assert verify(store).sound
    assert not any(VALUE in one.value for one in records_of(store))


def test_nothing_of_the_contents_is_left_in_any_object() -> None:
    store = MemoryStore()
    add(store, 0, value=VALUE)
    add(store, DAY)
    run(store, 1.5)
    erase_now(store)
    clean(store, 9)
    assert not [info for info in list_segments(store) for one in info.load().records if VALUE in one.value]
    assert not [key for key in keys(store) if b"d-1" in store.get(key)]


@pytest.mark.parametrize("operations", range(0, 60, 4))
def test_a_kill_at_any_point_leaves_it_done_or_not(store: MemoryStore, operations: int) -> None:
    before = records_of(store)
    try:
        erase_now(dying(store, operations))
        clean(dying(store, operations), 9)
    except Crash:
        pass
    assert records_of(store)[2:] == before[2:]
    assert verify(store).sound
    erase_now(store)
    clean(store, 9)
    assert all(map(is_erased, records_of(store)[:2]))
    assert verify(store).sound


def test_a_compaction_that_was_first_makes_it_start_again(store: MemoryStore) -> None:
    add(store, 3 * DAY)
    raced = False

    def race(operation: str, _key: str) -> None:
        nonlocal raced
        if operation == "put_new" and not raced:
            raced = True
            assert run(store, 5)

    assert erase_now(WatchedStore(store, before=race)) == 2
    assert verify(store).sound


def test_erased_segments_are_compared_with_the_sha256_of_the_erasure(store: MemoryStore) -> None:
    erase_now(store)
    clean(store, 9)
    heads = dict(find_manifest_heads(store))
    last = keys(store, "compacted/")[-1]
    store.delete(last)
    assert not verify(store, expect_head=heads).sound


@pytest.mark.parametrize(
    ("text", "resource", "user"),
    [
        (VALUE, True, True),
        (VALUE.replace(b"/", b"\\/"), True, True),
        (VALUE.replace(b"d-1", b"d-10"), False, True),
        (VALUE.replace(b"1690", b"16900"), False, False),
        (b'{"size":1690}', False, False),
        (b"\xff", False, False),
    ],
)
def test_records_are_selected_by_resource_or_user(text: bytes, resource: bool, user: bool) -> None:
    for record in (
        Record(TOPIC, 0, 0, 0, None, (), text),
        Record(TOPIC, 0, 0, 0, text, (), b""),
        Record(TOPIC, 0, 0, 0, b"", (("h", text),), b""),
    ):
        assert select_resource(ARN)(record) is resource
        assert select_user("1690")(record) is user
    assert select_user("1690")(Record(TOPIC, 0, 0, 0, None, (("userId", b"1690"),), b""))

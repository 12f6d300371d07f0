"""SQL over compacted files and segments together gives the answers of the segments."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.format.manifest import DAY
from archiver.maintain.retention import retire
from archiver.read.query import query
from archiver.read.query_views import VIEWS
from heliograph.store.folder import FolderStore
from schemas.clock import ManualClock
from tests.archiver.compacting import HOUR, START, WatchedStore, add, clean, fill, records_of, run
from tests.archiver.making import TOPIC
from tests.archiver.querying import event

QUESTIONS = [
    *(f"SELECT * FROM {view} ORDER BY ALL" for view in VIEWS),
    "SELECT date_trunc('day', time) AS day, count(*), min(id) FROM events GROUP BY ALL ORDER BY ALL",
    f'SELECT sum("offset") FROM records WHERE time >= epoch_ms({START + DAY})',
    "SELECT text(headers['n']), partition FROM records ORDER BY ALL",
]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "archive")
    fill(store)
    for number in range(4):
        add(store, DAY + number * HOUR, value=event(number))
    add(store, 2 * DAY + HOUR, value=event(9))
    return store


def answers(store: FolderStore | WatchedStore, tmp_path: Path) -> list[list[object]]:
    return [
        [tuple(row.values()) for row in query(store, sql, cache=tmp_path / "cache").rows()]
        for sql in QUESTIONS
    ]


def test_compaction_changes_no_answer(store: FolderStore, tmp_path: Path) -> None:
    before = answers(store, tmp_path)
    run(store, 1.5)
    assert answers(store, tmp_path) == before, "one day of three"
    clean(store, 1.5)
    assert answers(store, tmp_path) == before
    run(store, 2.5)
    clean(store, 2.5)
    assert answers(store, tmp_path) == before
    assert answers(store, tmp_path / "new") == before


def test_a_query_during_compaction_sees_every_row_once(store: FolderStore, tmp_path: Path) -> None:
    [before] = query(
        store, 'SELECT count(*), count(DISTINCT (partition, "offset")) FROM records', cache=tmp_path
    ).rows()
    for moment in range(14):
        at = 0

        def meddle(_operation: str, _key: str, moment: int = moment) -> None:
            nonlocal at
            at += 1
            if at == moment:
                run(store, 1.5 + moment / 10)
                clean(store, 1.5, grace=DAY)

        sql = 'SELECT count(*), count(DISTINCT (partition, "offset")) FROM records'
        watched = WatchedStore(store, before=meddle)
        [now] = query(watched, sql, cache=tmp_path / f"cache-{moment}").rows()
        assert now == before


def test_retired_records_are_in_no_answer(store: FolderStore, tmp_path: Path) -> None:
    run(store, 2.5)
    retire(store, ManualClock(START + 9 * DAY), TOPIC, START + DAY)
    kept = records_of(store)
    assert len(kept) == 23
    sql = 'SELECT partition, "offset" FROM records ORDER BY ALL'
    rows = [tuple(row.values()) for row in query(store, sql, cache=tmp_path).rows()]
    assert rows == [(one.partition, one.offset) for one in kept]

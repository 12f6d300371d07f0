"""The Parquet files of the query cache: made once, shared, removed when unused."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archiver.read.query import query
from tests.archiver.querying import (
    Archive,
    archive,
    event,
)

__all__ = ["archive"]


def test_a_segment_is_transcoded_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.add("events.ecs.disk", [event(0)])
    assert archive.ask("SELECT count(*) FROM events") == [(1,)]
    first = archive.parquet()
    archive.add("events.ecs.disk", [event(1)])
    read: list[str] = []
    get = archive.store.get

    def noting(key: str) -> bytes:
        read.append(key)
        return get(key)

    monkeypatch.setattr(archive.store, "get", noting)
    assert archive.ask("SELECT count(*) FROM events") == [(2,)]
    assert len(read) == 1
    assert archive.parquet().items() > first.items()


def test_files_of_missing_segments_are_removed_after_an_hour_without_use(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(0)])
    archive.ask("SELECT 1")
    [old] = archive.cache.rglob("*.parquet")
    [info] = archive.store.list("topics/")
    archive.store.delete(info.key)
    assert archive.ask("SELECT count(*) FROM events") == [(0,)]
    assert old.exists(), "another query may be reading it"
    os.utime(old, (0, 0))
    archive.ask("SELECT 1")
    assert not old.exists()


def test_files_in_use_are_kept_however_old(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(0)])
    archive.ask("SELECT 1")
    before = archive.parquet()
    for path in archive.cache.rglob("*.parquet"):
        os.utime(path, (0, 0))
    assert archive.ask("SELECT count(*) FROM events") == [(1,)]
    assert archive.parquet() == before


def test_spilled_rows_of_killed_queries_are_removed_after_a_day(archive: Archive) -> None:
    young, old = archive.cache / "spill-young", archive.cache / "spill-old"
    for folder in (young, old):
        folder.mkdir(parents=True)
        (folder / "rows.tmp").write_bytes(b"")
    os.utime(old, (0, 0))
    archive.ask("SELECT 1")
    assert young.exists()
    assert not old.exists()


def test_two_archives_share_a_cache(archive: Archive, tmp_path: Path) -> None:
    other = Archive(tmp_path / "other")
    other.cache = archive.cache
    archive.add("events.ecs.disk", [event(0)])
    other.add("events.ecs.disk", [event(1)])
    for _ in range(2):
        assert archive.ask("SELECT id FROM events") == [("event-0",)]
        assert other.ask("SELECT id FROM events") == [("event-1",)]


def test_concurrent_queries_share_the_cache(archive: Archive) -> None:
    for number in range(6):
        archive.add("events.ecs.disk", [event(number)])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(archive.ask, ["SELECT count(DISTINCT id) FROM events"] * 8))
    assert answers == [[(6,)]] * 8


def test_concurrent_queries_of_several_processes_share_the_cache(archive: Archive) -> None:
    for number in range(6):
        archive.add("events.ecs.disk", [event(number)])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = pool.map(_count_in_process, [archive.cache.parent] * 4, chunksize=1)
    assert answers == [6] * 4


def _count_in_process(folder: Path) -> int:
    [(count,)] = Archive(folder).ask("SELECT count(DISTINCT id) FROM events")
    assert isinstance(count, int)
    return count


def test_a_query_reads_while_the_archive_grows(archive: Archive) -> None:
    archive.add("events.ecs.disk", [event(number) for number in range(10)])
    rows = query(archive.store, "SELECT id FROM events", cache=archive.cache).rows()
    first = next(rows)
    archive.add("events.ecs.disk", [event(number) for number in range(10)])
    assert archive.ask("SELECT count(*) FROM events") == [(20,)]
    assert len([first, *rows]) == 10

"""The suite that every ObjectStore inherits; an implementation provides the fixture `store`."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.store.base import ObjectStore
from heliograph.store.open import open_store
from schemas.errors import ObjectMissing, StoreRefused

RACERS = 16

KEYS = st.sets(
    st.lists(st.text("aAé-.0z\U0001f600", min_size=1, max_size=3), min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda key: not {".", ".."} & set(key.split("/"))),
    max_size=12,
)


def keys_of(store: ObjectStore, prefix: str = "", after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, after)]


def without_folder_conflicts(keys: set[str]) -> set[str]:
    """Removes keys that are also the folder of another key, since some stores refuse such keys."""
    return {key for key in keys if not any(other.startswith(key + "/") for other in keys)}


def write_and_delete(store: ObjectStore) -> None:
    """Writes and deletes objects of one folder in four threads; no two threads use the same object."""

    def churn(racer: int) -> None:
        for turn in range(30):
            assert store.put_new(f"deep/er/{racer}-{turn}", b"")
            store.delete(f"deep/er/{racer}-{turn}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))


class StoreConformance:
    """Tests of every store."""

    def test_an_object_is_read_back_as_written(self, store: ObjectStore) -> None:
        body = bytes(range(256)) * 1000
        assert store.put_new("a/b.bin", body)
        assert store.get("a/b.bin") == body

    def test_an_empty_object_exists_and_is_read_back(self, store: ObjectStore) -> None:
        assert store.put_new("empty", b"")
        assert store.get("empty") == b""
        assert [info.size for info in store.list("")] == [0]

    def test_put_new_leaves_an_existing_object_unchanged(self, store: ObjectStore) -> None:
        assert store.put_new("a", b"first")
        assert not store.put_new("a", b"second")
        assert store.get("a") == b"first"

    def test_put_replaces_an_existing_object(self, store: ObjectStore) -> None:
        store.put("a/b", b"first")
        store.put("a/b", b"second")
        assert store.get("a/b") == b"second"
        assert not store.put_new("a/b", b"third")
        assert keys_of(store) == ["a/b"]

    def test_head_returns_size_and_time(self, store: ObjectStore) -> None:
        before = int(time.time() * 1000) - 2_000
        store.put("a/b", b"12345")
        info = store.head("a/b")
        assert info is not None
        assert info.key == "a/b"
        assert info.size == 5
        assert before <= info.modified <= int(time.time() * 1000) + 2_000

    @pytest.mark.parametrize("key", ["nothing", "a", "a/b/c", "a/nothing"])
    def test_a_missing_object_fails_get_has_no_head_and_can_be_deleted(
        self, store: ObjectStore, key: str
    ) -> None:
        store.put("a/b", b"here")
        with pytest.raises(ObjectMissing, match=key):
            store.get(key)
        assert store.head(key) is None
        store.delete(key)
        assert keys_of(store) == ["a/b"]

    def test_delete_frees_the_key(self, store: ObjectStore) -> None:
        store.put("a/b/c", b"1")
        store.delete("a/b/c")
        assert keys_of(store) == []
        assert store.put_new("a/b/c", b"again")

    def test_delete_frees_the_folders_of_the_key(self, store: ObjectStore) -> None:
        store.put("a/b/c", b"1")
        store.delete("a/b/c")
        assert store.put_new("a", b"now an object")

    @pytest.mark.parametrize(
        "key",
        ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\nb", "a\\b", "x" * 256, "\ud800"],
    )
    def test_an_invalid_key_is_refused(self, store: ObjectStore, key: str) -> None:
        acts: tuple[Callable[[], object], ...] = (
            lambda: store.get(key),
            lambda: store.head(key),
            lambda: store.delete(key),
            lambda: store.put(key, b""),
            lambda: store.put_new(key, b""),
        )
        for act in acts:
            with pytest.raises(StoreRefused):
                act()

    def test_a_key_has_at_most_1024_bytes(self, store: ObjectStore) -> None:
        longest = "/".join(["x" * 255] * 3 + ["y" * 128, "z" * 127])
        assert len(longest) == 1024
        assert store.put_new(longest, b"1")
        assert keys_of(store) == [longest]
        with pytest.raises(StoreRefused, match="1025"):
            store.put_new(longest + "z", b"1")

    def test_list_orders_by_whole_keys_and_not_by_folder(self, store: ObjectStore) -> None:
        for key in ("a/b", "a-b", "a0", "a.d/x", "B", "é", "a/b-c/d", "a/b.c"):
            store.put(key, b"")
        assert keys_of(store) == ["B", "a-b", "a.d/x", "a/b", "a/b-c/d", "a/b.c", "a0", "é"]
        assert keys_of(store, "a/") == ["a/b", "a/b-c/d", "a/b.c"]
        assert keys_of(store, "a/b-") == ["a/b-c/d"]
        assert keys_of(store, "a", after="a/b") == ["a/b-c/d", "a/b.c", "a0"]
        assert keys_of(store, "nothing/here") == []
        assert keys_of(store, "../") == []

    def test_list_returns_the_keys_by_prefix_and_start_in_order(self, store: ObjectStore) -> None:
        turns = count()

        @settings(max_examples=60)
        @given(KEYS.map(without_folder_conflicts), st.text("a-/.", max_size=3), st.text("a-/.z", max_size=5))
        def check(keys: set[str], prefix: str, after: str) -> None:
            root = f"{next(turns)}/"
            for key in keys:
                assert store.put_new(root + key, key.encode())
            wanted = [root + key for key in keys if key.startswith(prefix) and key.encode() > after.encode()]
            assert keys_of(store, root + prefix, root + after) == sorted(wanted, key=str.encode)

        check()

    def test_put_new_succeeds_for_exactly_one_of_racing_threads(self, store: ObjectStore) -> None:
        """Starts two races at a time, since some servers make losers wait for seconds."""
        barrier = Barrier(2 * RACERS, timeout=60)

        def race(racer: int) -> list[bool]:
            won: list[bool] = []
            for turn in range(5):
                barrier.wait()
                won.append(store.put_new(f"race/{turn}/{racer % 2}", b"%d" % racer))
            return won

        with ThreadPoolExecutor(2 * RACERS) as pool:
            results = list(pool.map(race, range(2 * RACERS)))
        for turn in range(5):
            for number in range(2):
                (winner,) = (racer for racer in range(number, 2 * RACERS, 2) if results[racer][turn])
                assert store.get(f"race/{turn}/{number}") == b"%d" % winner

    def test_readers_never_see_a_partly_written_object(self, store: ObjectStore) -> None:
        bodies = {bytes([value]) * 200_000 for value in range(4)}
        store.put("x", next(iter(bodies)))

        def rewrite() -> None:
            for body in [*bodies] * 10:
                store.put("x", body)

        with ThreadPoolExecutor(2) as pool:
            writes = pool.submit(rewrite)
            while not writes.done():
                assert store.get("x") in bodies
            writes.result()

    def test_concurrent_writes_and_deletes_in_one_folder_succeed(self, store: ObjectStore) -> None:
        write_and_delete(store)
        assert keys_of(store) == []


class SharedStoreConformance(StoreConformance):
    """Tests of stores that another process can open by the same URL."""

    def test_a_store_opened_again_by_url_has_the_same_objects(self, store: ObjectStore) -> None:
        store.put("a/b", b"1")
        other = open_store(store.url)
        assert other.get("a/b") == b"1"
        assert not other.put_new("a/b", b"2")
        other.close()

    def test_put_new_succeeds_for_exactly_one_of_racing_processes(self, store: ObjectStore) -> None:
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            results = pool.starmap(_race_in_process, [(store.url, racer) for racer in range(4)], chunksize=1)
        for turn in range(50):
            winners = [racer for racer in range(4) if results[racer][turn]]
            assert len(winners) == 1
            assert store.get(f"race/{turn}") == b"%d" % winners[0]


def _race_in_process(url: str, racer: int) -> list[bool]:
    store = open_store(url)
    return [store.put_new(f"race/{turn}", b"%d" % racer) for turn in range(50)]

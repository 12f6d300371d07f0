import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.store import folder
from heliograph.store.base import ObjectStore
from heliograph.store.folder import FolderStore
from schemas.errors import StoreError, StoreRefused, StoreUnavailable
from tests.conformance.store import SharedStoreConformance, keys_of


class TestFolderStore(SharedStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FolderStore(tmp_path / "a folder, made")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def test_the_key_of_an_object_is_the_path_of_its_file(store: FolderStore, tmp_path: Path) -> None:
    store.put_new("topics/a/b.avro", b"body")
    assert (tmp_path / "topics/a/b.avro").read_bytes() == b"body"


@pytest.mark.parametrize("write", [FolderStore.put, FolderStore.put_new])
def test_a_key_cannot_be_an_object_and_a_folder(
    store: FolderStore, write: Callable[[FolderStore, str, bytes], object]
) -> None:
    write(store, "a/b", b"")
    with pytest.raises(StoreRefused, match="folder"):
        write(store, "a", b"")
    for deeper in ("a/b/c", "a/b/c/d"):
        with pytest.raises(StoreRefused, match="cannot be a folder"):
            write(store, deeper, b"")
    assert keys_of(store) == ["a/b"]


def test_files_left_by_crashes_are_never_listed_and_deleted_once_old(
    store: FolderStore, tmp_path: Path
) -> None:
    store.put("a", b"")
    young, old = tmp_path / ".unfinished/young", tmp_path / ".unfinished/old"
    for leftover in (young, old):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert keys_of(store) == ["a"]
    assert keys_of(store, ".unfinished/") == []
    assert keys_of(FolderStore(tmp_path)) == ["a"]
    assert young.exists()
    assert not old.exists()


def test_a_key_in_the_folder_of_unfinished_files_is_refused(store: FolderStore) -> None:
    with pytest.raises(StoreRefused, match="being written"):
        store.put(".unfinished/a", b"")


def test_a_write_leaves_no_unfinished_file(store: FolderStore, tmp_path: Path) -> None:
    store.put_new("a", b"1")
    store.put_new("a", b"2")
    store.put("a", b"3")
    with pytest.raises(StoreRefused):
        store.put("a/b", b"4")
    assert list((tmp_path / ".unfinished").iterdir()) == []


def test_a_listing_opens_no_folder_that_precedes_its_start(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(10):
        store.put(f"topics/day={day}/x", b"")
    opened: list[str] = []
    scandir = os.scandir

    def noting(path: Path) -> object:
        opened.append(path.name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)
    assert keys_of(store, "topics/", after="topics/day=8/x") == ["topics/day=9/x"]
    assert opened == ["topics", "day=8", "day=9"]


def test_files_whose_names_are_not_text_are_not_listed(store: FolderStore, tmp_path: Path) -> None:
    store.put("a", b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")).write_bytes(b"")
    assert keys_of(store) == ["a"]


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (errno.ENOSPC, StoreUnavailable),
        (errno.EDQUOT, StoreUnavailable),
        (errno.EIO, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
        (errno.EBUSY, StoreUnavailable),
        (errno.EACCES, StoreRefused),
        (errno.EPERM, StoreRefused),
        (errno.EROFS, StoreRefused),
    ],
)
def test_errors_of_the_operating_system_become_store_errors(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, code: int, raised: type[StoreError]
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder, "_sync_data", fail)
    for write in (store.put, store.put_new):
        with pytest.raises(raised, match=r"a/b: \w+"):
            write("a/b", b"")
    assert keys_of(store) == []


def test_a_store_whose_folder_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefused):
        FolderStore(tmp_path / "file")


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="this system does not tell a descriptor's file"
)
@pytest.mark.parametrize("write", [FolderStore.put, FolderStore.put_new])
def test_a_write_syncs_the_bytes_before_naming_them_and_the_name_before_returning(
    store: FolderStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[FolderStore, str, bytes], object],
) -> None:
    synced: list[tuple[str, bool]] = []

    def noting(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.parent.name if path.is_file() else path.name, (tmp_path / "a/b").exists()))

    monkeypatch.setattr(folder, "_sync_data", noting)
    monkeypatch.setattr(os, "fsync", noting)
    write(store, "a/b", b"body")
    assert synced == [(".unfinished", False), (tmp_path.name, False), ("a", True)]

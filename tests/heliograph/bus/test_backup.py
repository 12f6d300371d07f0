"""Backing up a home while it is in use, and restoring it; a damaged backup is refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from heliograph.bus.sqlite import SqliteBus
from heliograph.operations import backup
from heliograph.operations.backup import Backup, backup_home, restore_home
from heliograph.store.open import open_store
from schemas.errors import BusDamaged, BusFull, BusUnavailable, InputError, NotFound
from schemas.record import NewRecord, Position, TopicPartition
from tests.conformance.bus_driver import Member, events, values
from tests.conformance.bus_topics import read_all

CHAIN = "topics/t/partition=0"


def open_bus_of(home: Path) -> SqliteBus:
    return SqliteBus(home / "bus.db", retention_seconds=None, reserve_bytes=0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "objects" / "a").mkdir(parents=True)
    (home / "objects" / "a" / "one").write_bytes(b"object")
    (home / "archive" / CHAIN).mkdir(parents=True)
    (home / "archive" / CHAIN / "t+0+00.avro").write_bytes(b"segment")
    (home / "archive" / ".unfinished").mkdir()
    (home / "archive" / ".unfinished" / "half").write_bytes(b"half")
    (home / "cache").mkdir()
    (home / "cache" / "made-again").write_bytes(b"x")
    (home / "agents" / "i-1").mkdir(parents=True)
    (home / "agents" / "i-1" / "journal.db").write_bytes(b"runs would begin again")
    (home / "heliograph.toml").write_text("[bus]\n")
    return home


@pytest.fixture
def bus(home: Path) -> Iterator[SqliteBus]:
    with closing(open_bus_of(home)) as bus:
        bus.append(events("t", 10))
        yield bus


@pytest.fixture
def saved(home: Path, bus: SqliteBus, tmp_path: Path) -> Path:
    member = Member(bus, "t", "g")
    member.done(member.collect(10)[:4])
    member.consumer.close()
    backup_home(home, tmp_path / "saved")
    return tmp_path / "saved"


def files_under(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def test_a_restored_home_has_the_files_and_records_of_the_backup(
    bus: SqliteBus, saved: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    summary = restore_home(saved, again)
    files = files_under(again)
    assert files.keys() == {
        "bus.db",
        "heliograph.toml",
        "objects/a/one",
        f"archive/{CHAIN}/t+0+00.avro",
    }
    assert (summary.files, summary.size) == (4, sum(len(body) for body in files.values()))
    assert summary.log_id == bus.log_id
    with closing(open_bus_of(again)) as restored:
        assert restored.log_id == bus.log_id
        assert values(read_all(restored, "t")) == list(range(10))
        member = Member(restored, "t", "g")
        assert values(member.collect(6)) == [4, 5, 6, 7, 8, 9]
        assert list(restored.append(events("t", 1))) == [Position("t", 0, 10)]


def test_the_manifest_names_every_file_with_its_size_and_hash(saved: Path) -> None:
    manifest = json.loads((saved / "backup.json").read_bytes())
    files = files_under(saved)
    del files["backup.json"]
    assert {file["path"]: (file["size"], file["sha256"]) for file in manifest["contents"]} == {
        name: (len(body), sha256(body).hexdigest()) for name, body in files.items()
    }


def test_a_backup_while_appending_has_an_archive_that_is_not_ahead_of_its_bus(
    home: Path, bus: SqliteBus, tmp_path: Path
) -> None:
    """Appends records and archives each as a segment of its own while the home is copied."""
    store = open_store(f"file://{home / 'archive'}")
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.001):
            (position,) = bus.append([NewRecord("t", b"1", partition=1)])
            store.put_new(f"topics/t/partition=1/{position.offset:020}", b"segment")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for turn in range(5):
            backup_home(home, tmp_path / f"saved{turn}")
    finally:
        stop.set()
        thread.join()
    for turn in range(5):
        again = tmp_path / f"again{turn}"
        restore_home(tmp_path / f"saved{turn}", again)
        chain = again / "archive" / "topics" / "t" / "partition=1"
        segments = sorted(int(path.name) for path in chain.iterdir()) if chain.exists() else []
        assert segments == list(range(len(segments)))
        with closing(open_bus_of(again)) as restored:
            assert restored.extents("t")[TopicPartition("t", 1)].end >= len(segments)


def test_the_bus_is_copied_after_the_archive_and_before_the_objects(
    home: Path, bus: SqliteBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_and_add_files(source: Path, target: Path) -> str:
        (home / "archive" / CHAIN / "t+0+99.avro").write_bytes(b"later than the bus")
        copied: str = original(source, target)
        (home / "objects" / "late").write_bytes(b"after the bus")
        return copied

    original: Callable[[Path, Path], str] = backup.copy_bus
    monkeypatch.setattr(backup, "copy_bus", copy_and_add_files)
    backup_home(home, tmp_path / "saved")
    assert f"archive/{CHAIN}/t+0+99.avro" not in files_under(tmp_path / "saved")
    assert "objects/late" in files_under(tmp_path / "saved")


def test_a_home_that_is_not_empty_is_replaced_only_by_force(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    restore_home(saved, other)
    (other / "mine").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        restore_home(saved, other)
    assert (other / "mine").exists()
    restore_home(saved, other, force=True)
    assert not (other / "mine").exists()
    assert (other / "bus.db").exists()


def test_a_home_in_use_is_not_replaced(
    home: Path, bus: SqliteBus, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BusUnavailable, match="heliograph run"):
        restore_home(saved, home, force=True)
    bus.close()

    def check_and_try_to_open(path: Path) -> None:
        checked.append(path)
        with pytest.raises(BusUnavailable, match="`heliograph restore` is replacing it"):
            open_bus_of(home)

    checked: list[Path] = []
    monkeypatch.setattr(backup, "check_bus", check_and_try_to_open)
    restore_home(saved, home, force=True)
    assert len(checked) == 1
    open_bus_of(home).close()


@pytest.mark.parametrize("broken", ["bus.db", "objects/a/one"])
def test_a_backup_with_a_changed_or_missing_file_is_not_restored(
    saved: Path, tmp_path: Path, broken: str
) -> None:
    body = (saved / broken).read_bytes()
    (saved / broken).write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(BusDamaged, match=f"{broken}: has changed since it was backed up"):
        restore_home(saved, tmp_path / "again")
    (saved / broken).unlink()
    with pytest.raises(BusDamaged, match=f"{broken}: is missing"):
        restore_home(saved, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "saved"]


def test_a_bus_that_was_damaged_before_the_backup_is_not_restored(saved: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(saved / "bus.db")) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'records'")
    rewrite_manifest(saved, "bus.db")
    with pytest.raises(BusDamaged, match=r"bus\.db"):
        restore_home(saved, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def rewrite_manifest(saved: Path, name: str) -> None:
    manifest = json.loads((saved / "backup.json").read_bytes())
    for file in manifest["contents"]:
        if file["path"] == name:
            file["sha256"] = sha256((saved / name).read_bytes()).hexdigest()
    (saved / "backup.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a\0b"])
def test_a_manifest_that_points_outside_is_refused(saved: Path, tmp_path: Path, path: str) -> None:
    manifest = json.loads((saved / "backup.json").read_bytes())
    manifest["contents"][0]["path"] = path
    (saved / "backup.json").write_text(json.dumps(manifest))
    with pytest.raises(BusDamaged, match="outside the home"):
        restore_home(saved, tmp_path / "again")


def test_a_manifest_that_cannot_be_used_is_refused(saved: Path, tmp_path: Path) -> None:
    manifest = json.loads((saved / "backup.json").read_bytes())
    (saved / "backup.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(InputError, match="newer version of Heliograph"):
        restore_home(saved, tmp_path / "again")
    (saved / "backup.json").write_text("{")
    with pytest.raises(BusDamaged, match="use another backup"):
        restore_home(saved, tmp_path / "again")
    (saved / "backup.json").unlink()
    with pytest.raises(NotFound, match="not a backup"):
        restore_home(saved, tmp_path / "again")


def test_a_backup_is_written_to_an_empty_folder_apart_from_the_home(
    home: Path, bus: SqliteBus, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="elsewhere"):
        backup_home(home, home / "backups" / "today")
    with pytest.raises(InputError, match="elsewhere"):
        backup_home(home, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        backup_home(home, tmp_path / "full")
    with pytest.raises(NotFound, match=r"no bus\.db"):
        backup_home(tmp_path / "nowhere", tmp_path / "saved")
    assert isinstance(backup_home(home, tmp_path / "new" / "saved"), Backup)


def test_a_backup_that_fails_leaves_nothing(
    home: Path, bus: SqliteBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "copy_bus", fail)
    with pytest.raises(BusFull, match="free some space"):
        backup_home(home, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]

"""Backs up the whole home while everything runs, and restores it.

A backup is a folder: a copy of the home, and `backup.json`, which names every file with its size and SHA-256. The order
of copying:

1. The archive, whose files never change once they exist. It comes before the bus, so that in the copy the topics reach
   at least as far as the archive's chains: the archiver refuses to continue an archive that is ahead of its bus. It
   reads the records that the chains lack from the topics again.
2. The bus, by SQLite's online backup, as of one moment.
3. All other files: objects, local log stores, the configuration. They come after the bus, so that the copy has every
   object that its topics call delivered. Deliveries that its topics lack are sent again under the same id.

The cache and the journals of agents are not copied: with a copied journal, an agent would run commands again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

import msgspec

from heliograph.bus.sqlite import filelock
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.file import users_lock
from schemas.errors import BusDamaged, BusUnavailable, InputError, NotFound

MANIFEST = "backup.json"
BUS_FILE = "bus.db"
ARCHIVE = "archive"
FORMAT = 1
"""Version of the manifest; a newer one is refused."""

_NOT_COPIED = frozenset(
    {
        "cache",
        "agents",
        ARCHIVE,
        MANIFEST,
        BUS_FILE,
        f"{BUS_FILE}-wal",
        f"{BUS_FILE}-shm",
        f"{BUS_FILE}-journal",
        f"{BUS_FILE}.locks",
    }
)
_UNFINISHED = ".unfinished"  # folder in which an object store keeps unfinished files
_LISTINGS = 20
_CHUNK = 1024 * 1024


class BackedUp(msgspec.Struct, frozen=True):
    """One file: its path in the home with `/`, its size in bytes, the SHA-256 of its bytes in hex."""

    path: str
    size: int
    sha256: str


class Backup(msgspec.Struct, frozen=True):
    """The contents of a backup.

    `made`: time of the backup in milliseconds since the epoch; `log_id`: id of the bus in it.
    """

    made: int
    log_id: str
    contents: tuple[BackedUp, ...]
    format: int = FORMAT

    @property
    def files(self) -> int:
        """The number of files."""
        return len(self.contents)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.contents)


def backup_home(home: Path, to: Path) -> Backup:
    """Copies the home `home` into the new folder `to`, complete or not at all.

    Raises NotFound if there is no bus in the home, InputError if `to` cannot be used, BusFull, BusUnavailable,
    BusDamaged.
    """
    home, to = home.resolve(), to.resolve()
    if not (home / BUS_FILE).is_file():
        raise NotFound(f"{home}: no {BUS_FILE} here to back up; name the home with HELIOGRAPH_HOME")
    if to.is_relative_to(home) or home.is_relative_to(to):
        raise InputError(f"{to}: is inside the home or contains it; name a folder elsewhere")
    if to.exists() and not _is_empty(to):
        raise InputError(f"{to}: not empty; name a new folder")
    with translated(to), _new_folder_beside(to) as partial:
        archived = _copy_all(home, partial, _stable_listing(home / ARCHIVE))
        log_id = copy_bus(home / BUS_FILE, partial / BUS_FILE)
        others = _copy_all(home, partial, _files_of_home(home))
        bus = BackedUp(BUS_FILE, (partial / BUS_FILE).stat().st_size, _copy(partial / BUS_FILE, None))
        backup = Backup(time.time_ns() // 1_000_000, log_id, (bus, *archived, *others))
        _write(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(backup), indent=1))
        _put_in_place(partial, to)
    return backup


def restore_home(source: Path, home: Path, *, force: bool = False) -> Backup:
    """Restores the backup `source` as `home`, complete or not at all. `force`: replaces a home that is not empty.

    Raises NotFound if `source` is not a backup, InputError if the home is not empty, BusDamaged if a file of the backup
    has changed, BusUnavailable if the home is in use, BusFull.
    """
    source, home = source.resolve(), home.resolve()
    backup = read_manifest(source)
    if home.exists() and not _is_empty(home) and not force:
        raise InputError(f"{home}: not empty; name another home, or replace this one with --force")
    with translated(home), _exclusive_use(home), _new_folder_beside(home) as partial:
        for file in backup.contents:
            _restore_file(source / file.path, partial / file.path, file)
        check_bus(partial / BUS_FILE)
        _put_in_place(partial, home)
    return backup


def read_manifest(source: Path) -> Backup:
    """Reads the list of files of the backup in the folder `source`. Raises NotFound, InputError, BusDamaged."""
    path = source / MANIFEST
    try:
        backup = msgspec.json.decode(path.read_bytes(), type=Backup)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{source}: has no {MANIFEST}, so it is not a backup; name a folder that `heliograph backup` wrote"
        ) from error
    except msgspec.MsgspecError as error:
        raise BusDamaged(f"{path}: cannot be read ({error}); use another backup") from error
    if backup.format > FORMAT:
        raise InputError(
            f"{path}: was written by a newer version of Heliograph; restore it with that version"
        )
    for file in backup.contents:
        parts = PurePosixPath(file.path)
        if parts.is_absolute() or ".." in parts.parts or "\0" in file.path:
            raise BusDamaged(f"{path}: names {file.path!r}, which is outside the home; use another backup")
    return backup


def _stable_listing(folder: Path) -> Sequence[Path]:
    """Lists the files under `folder` as of one moment: lists until two listings in a row are equal.

    A single listing may hold a segment and lack the one before it, if both are written meanwhile.
    """
    before: Sequence[Path] | None = None
    for _ in range(_LISTINGS):
        now = sorted(_files_under(folder)) if folder.exists() else []
        if now == before:
            return now
        before = now
    raise BusUnavailable(f"{folder}: changes faster than it can be listed; try again when less is archived")


def _files_of_home(home: Path) -> Iterator[Path]:
    with os.scandir(home) as entries:
        kept = [entry for entry in entries if entry.name not in _NOT_COPIED]
    for entry in kept:
        if entry.is_dir():
            yield from _files_under(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _files_under(folder: Path) -> Iterator[Path]:
    """Yields the finished files of a folder and of those below it; follows links to folders."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError:  # removed since it was listed
        return
    for entry in found:
        if entry.name == _UNFINISHED:
            continue
        if entry.is_dir():
            yield from _files_under(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _copy_all(home: Path, to: Path, files: Sequence[Path] | Iterator[Path]) -> Sequence[BackedUp]:
    copied: list[BackedUp] = []
    for file in files:
        relative = file.relative_to(home)
        target = to / relative
        try:
            digest = _copy(file, target)
        except FileNotFoundError:
            if file.exists():
                raise
            continue  # retention or compaction has removed it since it was listed
        copied.append(BackedUp(relative.as_posix(), target.stat().st_size, digest))
    return copied


def _copy(source: Path, target: Path | None) -> str:
    """Copies one file durably, with its times; returns the SHA-256 of its bytes.

    If `target` is None, it only reads the file.
    """
    digest = sha256()
    with source.open("rb") as reading:
        if target is None:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
            return digest.hexdigest()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as writing:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
                writing.write(chunk)
            writing.flush()
            os.fsync(writing.fileno())
    shutil.copystat(source, target)
    return digest.hexdigest()


def copy_bus(source: Path, target: Path) -> str:
    """Copies the bus as of one moment, while other processes write to it; returns its log id."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
        (log_id,) = writing.execute("SELECT value FROM meta WHERE name = 'log id'").fetchone()
        writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return str(log_id)


def _restore_file(source: Path, target: Path, expected: BackedUp) -> None:
    try:
        digest = _copy(source, target)
    except FileNotFoundError as error:
        raise BusDamaged(f"{source}: is missing from the backup; use another backup") from error
    if digest != expected.sha256:
        raise BusDamaged(f"{source}: has changed since it was backed up; use another backup")


def check_bus(path: Path) -> None:
    """Raises BusDamaged unless the bus in the file `path` is whole."""
    if not path.is_file():
        raise BusDamaged(f"{path.name}: is missing from the backup; use another backup")
    try:
        with closing(sqlite3.connect(path)) as connection:
            (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        problem = str(error)
    if problem != "ok":
        raise BusDamaged(f"{path.name}: is damaged in the backup ({problem}); use another backup")


@contextmanager
def _exclusive_use(home: Path) -> Generator[None]:
    """Prevents every process from opening the bus of `home`. Raises BusUnavailable if a process has it open."""
    users = users_lock(home / BUS_FILE)
    if not users.exists():
        yield
        return
    lock = filelock.take(users)
    if lock is None:
        raise BusUnavailable(
            f"{home}: in use; stop `heliograph run` and every other process that has it open"
        )
    try:
        yield
    finally:
        filelock.release(lock)


@contextmanager
def _new_folder_beside(folder: Path) -> Generator[Path]:
    """Yields a new folder beside `folder` that only its owner may enter; removes it unless `_put_in_place` renamed it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(mode=0o700)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, folder: Path) -> None:
    """Renames the finished folder `partial` to `folder`, and removes the folder that had this name."""
    for each, _, _ in os.walk(partial):
        _sync_folder(Path(each))
    old = partial.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    _sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, body: bytes) -> None:
    with path.open("xb") as writing:
        writing.write(body)
        writing.flush()
        os.fsync(writing.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())

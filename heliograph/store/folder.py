"""Object store in a folder: `file:///path`. The key is the path of a file below the folder."""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path

from heliograph.store.base import ObjectInfo
from heliograph.store.keys import check_key, key_problem
from schemas.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable

_UNFINISHED = ".unfinished"
"""Folder of files being written, inside the store's folder so that both lie on the same file system."""
_UNFINISHED_AGE = 3600.0
"""Seconds after which a file there was left by a crash."""
_PLACE_TRIES = 100
"""Attempts to put a file into a folder that other processes remove while it is empty."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Writes content and size of a file to the disk, but not its times; macOS lacks this call and writes all."""

_REFUSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the key is an object, and cannot be a folder as well",
    errno.EISDIR: "the key is the folder of other objects",
    errno.ENAMETOOLONG: "the path is too long for the file system",
}
_UNAVAILABLE = {
    errno.ENOSPC: "no space left; free some, or move the store",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EIO: "the disk failed to read or write",
    errno.ESTALE: "the network file system lost the file",
}


class FolderStore:
    """An ObjectStore in a folder that several processes may share. Needs a file system with hard links.

    Raises StoreRefused for a key that is the folder of other objects, and for a key below an object.
    """

    def __init__(self, root: Path) -> None:
        """Opens the store, creates its folder if it is missing, and deletes the files that crashes left half-written."""
        self._root = root.absolute()
        self._unfinished = self._root / _UNFINISHED
        with _translated(self.url):
            _make_folder(self._unfinished)
            self._clean(time.time() - _UNFINISHED_AGE)

    @property
    def url(self) -> str:
        """`file://` and the folder's path."""
        return self._root.as_uri()

    def put_new(self, key: str, body: bytes) -> bool:
        """Stores a new object. The bytes are durable before a hard link gives them their name."""
        final = self._path(key)
        with _translated(key), self._written(body) as temporary:
            try:
                _place(temporary, final, os.link)
            except FileExistsError:
                if final.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "is a folder") from None
                _sync(final.parent)
                return False
            _sync(final.parent)
            return True

    def put(self, key: str, body: bytes) -> None:
        """Stores or replaces an object. The bytes are durable before a rename gives them their name."""
        final = self._path(key)
        with _translated(key), self._written(body) as temporary:
            _place(temporary, final, os.replace)
            _sync(final.parent)

    def get(self, key: str) -> bytes:
        """Reads a whole object. Raises ObjectMissing."""
        path = self._path(key)
        with _translated(key):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectMissing(f"no object {key!r} in {self.url}") from None

    def head(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object; None if it does not exist."""
        path = self._path(key)
        with _translated(key):
            if not path.is_file():
                return None
            with suppress(FileNotFoundError, NotADirectoryError):
                return _info(key, path.stat())
            return None

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yields objects in order of their keys' bytes; reads each folder when the order reaches it."""
        base = prefix.rpartition("/")[0]
        if base and key_problem(base):
            return
        folder_key = base.encode() + b"/" if base else b""
        with _translated(prefix):
            yield from self._walk(self._root / base, folder_key, prefix.encode(), after.encode())

    def delete(self, key: str) -> None:
        """Deletes an object, and the folders that become empty."""
        path = self._path(key)
        with _translated(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            except (IsADirectoryError, PermissionError):
                if path.is_dir():
                    return
                raise
            with suppress(FileNotFoundError):
                _sync(path.parent)
            self._remove_empty_folders(path.parent)

    def close(self) -> None:
        """Does nothing: no file stays open between calls."""

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.partition("/")[0] == _UNFINISHED:
            raise StoreRefused(
                f"object key {key!r}: {_UNFINISHED!r} is reserved for files being written; choose another"
            )
        return self._root / key

    @contextmanager
    def _written(self, body: bytes) -> Generator[Path]:
        """Lends a durable file with the content `body` under a unique name; deletes it afterwards."""
        path = self._unfinished / uuid.uuid4().hex
        try:
            with path.open("xb", buffering=0) as file:
                rest = memoryview(body)
                while rest:
                    rest = rest[file.write(rest) :]
                _sync_data(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _walk(self, folder: Path, base: bytes, prefix: bytes, after: bytes) -> Iterator[ObjectInfo]:
        """Yields the objects below `folder`, whose own key is `base`.

        A folder sorts as its name and a `/`, with which all its keys begin, so the order is that of whole keys. Folders
        whose keys all precede `after` are not opened.
        """
        try:
            with os.scandir(folder) as found:
                entries = sorted(((_sort_key(base, one), one) for one in found), key=itemgetter(0))
        except (FileNotFoundError, NotADirectoryError):
            return
        for key, entry in entries:
            if key.startswith(_UNFINISHED.encode() + b"/") or not _is_text(key):
                continue
            if key.endswith(b"/"):
                if _overlaps(key, prefix) and not (key < after and not after.startswith(key)):
                    yield from self._walk(folder / entry.name, key, prefix, after)
            elif key.startswith(prefix) and key > after:
                with suppress(FileNotFoundError):
                    yield _info(key.decode(), entry.stat())

    def _remove_empty_folders(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or removed by another process
            folder = folder.parent

    def _clean(self, before: float) -> None:
        for path in self._unfinished.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()


def _sort_key(base: bytes, entry: os.DirEntry[str]) -> bytes:
    return base + os.fsencode(entry.name) + (b"/" if entry.is_dir() else b"")


def _is_text(key: bytes) -> bool:
    """True if a file name can be part of a key. Other programs may have put files here under any name."""
    try:
        return bool(key.decode())
    except UnicodeDecodeError:
        return False


def _overlaps(folder: bytes, prefix: bytes) -> bool:
    """True if keys that begin with `folder` may begin with `prefix`."""
    return folder.startswith(prefix) or prefix.startswith(folder)


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, stat.st_mtime_ns // 1_000_000)


def _place(temporary: Path, final: Path, how: Callable[[Path, Path], None]) -> None:
    """Links or moves a file to its final name, in a folder that a delete may remove while it is empty."""
    for _ in range(_PLACE_TRIES):
        _make_folder(final.parent)
        with suppress(FileNotFoundError):
            how(temporary, final)
            return
    raise FileNotFoundError(
        errno.ENOENT, "other processes keep removing its folder or the file being written"
    )


def _make_folder(folder: Path) -> None:
    """Creates a folder and its parents, each durable in its own parent."""
    if folder.is_dir():
        return
    for _ in range(_PLACE_TRIES):
        _make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            with suppress(FileNotFoundError):  # a delete removed it
                if stat.S_ISDIR(folder.stat().st_mode):
                    return
                raise NotADirectoryError(errno.ENOTDIR, "is an object") from None
            continue
        except FileNotFoundError:
            continue  # a delete removed the empty parent
        with suppress(FileNotFoundError):
            _sync(folder.parent)
        return
    raise FileNotFoundError(errno.ENOENT, "other processes keep removing its parent folder", str(folder))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(what: str) -> Generator[None]:
    """Turns errors of the operating system into errors of a store."""
    try:
        yield
    except OSError as error:
        raise _store_error(what, error) from error


def _store_error(what: str, error: OSError) -> StoreError:
    code = error.errno or 0
    if code in _REFUSED:
        return StoreRefused(f"{what}: {_REFUSED[code]}")
    return StoreUnavailable(f"{what}: {_UNAVAILABLE.get(code) or error.strerror or error}")

"""Removes what is old and finished, or replaced, and gives its space back to the file system, a little in each
transaction."""

from __future__ import annotations

import sqlite3
from functools import partial

from heliograph.bus.base import Extent
from heliograph.bus.sqlite import groups, log
from heliograph.bus.sqlite.catalogue import Snapshot
from heliograph.bus.sqlite.schema import pack
from heliograph.bus.sqlite.writer import Writer
from schemas.topics import kind_of

_RECORDS = 5000
_PAGES = 500


def expire(writer: Writer, snapshot: Snapshot, before: int) -> int:
    """Remove records older than `before` (milliseconds) that every known group has finished; returns how many.

    Topics that are retained for ever stay whole, those kept until they are consumed until a group has begun.
    """
    removed = 0
    for topic, identities in snapshot.topics.items():
        kind = kind_of(topic)
        if kind.retained_forever:
            continue
        for identity in identities:
            some = partial(_expire_some, identity=identity, before=before, unread=not kind.until_consumed)
            while gone := writer.run(some):
                removed += gone
    return removed


def _expire_some(connection: sqlite3.Connection, identity: int, before: int, unread: bool) -> int:
    """`unread`: whether what no group has begun to read may go, too."""
    # The cursors are read in the transaction that removes: a group that joins meanwhile begins behind it.
    extent = Extent(
        *connection.execute("SELECT start, next FROM partitions WHERE id = ?", (identity,)).fetchone()
    )
    lowest = groups.lowest_cursor(connection, identity)
    if lowest is None:
        lowest = extent.end if unread else extent.start
    finished = min(extent.end, lowest)
    some = Extent(extent.start, min(finished, extent.start + _RECORDS))
    end = log.offset_at(connection, identity, some, before)
    if end <= extent.start:
        return 0
    connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ?", (pack(identity, extent.start), pack(identity, end))
    )
    connection.execute("UPDATE partitions SET start = ? WHERE id = ?", (end, identity))
    return end - extent.start


def compact(writer: Writer, snapshot: Snapshot, before: int) -> int:
    """Remove of compacted topics what a later record of its key has replaced, and what is empty and older than
    `before` (milliseconds): by then all who follow the topic have seen that the key is gone. Returns how many."""
    removed = 0
    for topic, identities in snapshot.topics.items():
        for identity in identities if kind_of(topic).compacted else ():
            some = partial(_compact_some, identity=identity, before=before)
            while gone := writer.run(some):
                removed += gone
    return removed


def _compact_some(connection: sqlite3.Connection, identity: int, before: int) -> int:
    superseded = connection.execute(
        """SELECT id FROM (
            SELECT id, timestamp, length(value) AS bytes, row_number() OVER (PARTITION BY key ORDER BY id DESC) AS age
            FROM records WHERE id >= ? AND id < ?)
        WHERE age > 1 OR (bytes = 0 AND timestamp < ?) LIMIT ?""",
        (pack(identity, 0), pack(identity + 1, 0), before, _RECORDS),
    ).fetchall()
    connection.executemany("DELETE FROM records WHERE id = ?", superseded)
    return len(superseded)


def give_space_back(writer: Writer) -> None:
    """Cut free pages off the file, and the log ahead to nothing."""
    while writer.run(_vacuum_some):
        pass
    writer.checkpoint()


def _vacuum_some(connection: sqlite3.Connection) -> bool:
    """Whether it did something, so that there may be more to do."""
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    (after,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(after < before)

"""Removes records that are old and finished, or replaced, and gives their space back to the file system, a little in
each transaction."""

from __future__ import annotations

import sqlite3
from functools import partial

from heliograph.bus.base import Extent
from heliograph.bus.sqlite import groups, rows
from heliograph.bus.sqlite.catalogue import Snapshot
from heliograph.bus.sqlite.schema import pack
from heliograph.bus.sqlite.writer import Writer
from schemas.topics import kind_of

_RECORDS = 5000
"""Records removed in one transaction."""
_PAGES = 500
"""Pages cut off in one transaction."""


def expire(writer: Writer, snapshot: Snapshot, before: int) -> int:
    """Removes records older than `before` (milliseconds) that every known group has finished; returns their number.

    Topics that are retained for ever keep everything; topics that are kept until consumed keep everything until a group
    has a cursor.
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
    """Removes some records of a partition; returns their number. `unread`: also if no group has a cursor."""
    # The cursors are read in the transaction that removes, so a group that joins meanwhile begins behind it.
    extent = Extent(
        *connection.execute("SELECT start, next FROM partitions WHERE id = ?", (identity,)).fetchone()
    )
    lowest = groups.lowest_cursor(connection, identity)
    if lowest is None:
        lowest = extent.end if unread else extent.start
    finished = min(extent.end, lowest)
    some = Extent(extent.start, min(finished, extent.start + _RECORDS))
    end = rows.offset_at(connection, identity, some, before)
    if end <= extent.start:
        return 0
    connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ?", (pack(identity, extent.start), pack(identity, end))
    )
    connection.execute("UPDATE partitions SET start = ? WHERE id = ?", (end, identity))
    return end - extent.start


def compact(writer: Writer, snapshot: Snapshot, before: int) -> int:
    """Removes records of compacted topics that a later record of their key has replaced, and empty ones older than
    `before` (milliseconds), since by then every reader of the topic has seen that the key is gone. Returns their number."""
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
    """Cuts free pages off the file, and empties the write-ahead log."""
    while writer.run(_vacuum_some):
        pass
    writer.checkpoint()


def _vacuum_some(connection: sqlite3.Connection) -> bool:
    """Cuts off some free pages; returns True if there may be more."""
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    (after,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(after < before)

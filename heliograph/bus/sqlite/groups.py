"""Cursors of groups in the file. An epoch counts the assignments of a partition, so that only its last owner can commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from heliograph.bus.base import Lag
from schemas.record import TopicPartition


class Claim(NamedTuple):
    """The commit from which a new owner of a partition continues, and the epoch that its own commits must carry."""

    cursor: int
    note: str
    epoch: int


class Commit(NamedTuple):
    """The progress of an owner on the partition with the id `identity`."""

    identity: int
    epoch: int
    cursor: int
    note: str


def claim(connection: sqlite3.Connection, group: str, identities: Iterable[int]) -> Mapping[int, Claim]:
    """Begins a new epoch on each partition, inside the caller's transaction. A group without a cursor gets one at the
    earliest record."""
    claims: dict[int, Claim] = {}
    for identity in identities:
        connection.execute(
            """INSERT INTO cursors (consumers, partition, cursor, epoch)
               SELECT ?, id, start, 1 FROM partitions WHERE id = ?
               ON CONFLICT DO UPDATE SET epoch = epoch + 1""",
            (group, identity),
        )
        row = connection.execute(
            "SELECT cursor, note, epoch FROM cursors WHERE consumers = ? AND partition = ?", (group, identity)
        ).fetchone()
        claims[identity] = Claim(*row)
    return claims


def commit(connection: sqlite3.Connection, group: str, commits: Iterable[Commit]) -> Sequence[int]:
    """Stores commits inside the caller's transaction; a cursor never goes backwards.

    Returns the ids of partitions that have another owner by now, whose commits are not stored.
    """
    taken: list[int] = []
    for identity, epoch, cursor, note in commits:
        row = connection.execute(
            "SELECT epoch, cursor FROM cursors WHERE consumers = ? AND partition = ?", (group, identity)
        ).fetchone()
        if row is None or row[0] != epoch:
            taken.append(identity)
        elif cursor >= row[1]:
            connection.execute(
                "UPDATE cursors SET cursor = ?, note = ? WHERE consumers = ? AND partition = ?",
                (cursor, note, group, identity),
            )
    return taken


def lag(connection: sqlite3.Connection, group: str) -> Mapping[TopicPartition, Lag]:
    """Reads cursor and end of each partition that the group has a cursor for."""
    rows = connection.execute(
        """SELECT topic, partitions.partition, cursor, next FROM cursors
           JOIN partitions ON partitions.id = cursors.partition
           WHERE consumers = ? ORDER BY topic, partitions.partition""",
        (group,),
    ).fetchall()
    return {TopicPartition(topic, number): Lag(cursor, end) for topic, number, cursor, end in rows}


def groups(connection: sqlite3.Connection) -> Sequence[str]:
    """Lists every group that has a cursor, in order."""
    rows = connection.execute("SELECT DISTINCT consumers FROM cursors ORDER BY consumers").fetchall()
    return [group for (group,) in rows]


def lowest_cursor(connection: sqlite3.Connection, identity: int) -> int | None:
    """Reads the lowest cursor of all groups on a partition; None if no group has one."""
    row = connection.execute("SELECT min(cursor) FROM cursors WHERE partition = ?", (identity,)).fetchone()
    lowest: int | None = row[0]
    return lowest

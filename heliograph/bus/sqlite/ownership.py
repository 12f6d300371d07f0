"""Membership of groups and ownership of partitions, as locked files.

A member is a locked file, and so is an owned partition: the kernel frees both when the process dies. Members do not talk
to each other. Each one lists the live members, computes its share of every topic, gives back partitions beyond the share
and takes free ones up to it. The shares of all members add up to all partitions.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from heliograph.bus.sqlite import filelock
from schemas.record import TopicPartition
from schemas.topics import matches

_MEMBERS = "members"
_decode_topics = msgspec.json.Decoder(tuple[str, ...]).decode


class Membership:
    """One member of a group: its name, its file and the locks of the partitions that it owns. Raises OSError."""

    def __init__(self, locks: Path, group: str, topics: Sequence[str]) -> None:
        self._folder = _group_folder(locks, group)
        (self._folder / _MEMBERS).mkdir(parents=True, exist_ok=True)
        self._topics_of: dict[str, tuple[str, ...]] = {}
        self._locks: dict[TopicPartition, int] = {}
        # The time comes first, so that an older member keeps its rank when others join.
        self.name = f"{group}-{time.time_ns():x}-{os.getpid()}-{secrets.token_hex(3)}"
        self._file = self._folder / _MEMBERS / quote(self.name, safe="")
        self._lock = filelock.take_new(self._file, msgspec.json.encode(list(topics)).decode())

    def shares(self, topics: Mapping[str, int]) -> Mapping[str, int]:
        """Computes this member's share: a number of partitions of each topic. `topics`: the number of partitions of each."""
        living = {name: self._wanted_by(name) for name in _living(self._folder)}
        wanting = {
            topic: tuple(sorted(name for name, wanted in living.items() if matches(topic, wanted)))
            for topic in topics
        }
        return shares(self.name, topics, wanting)

    def take(self, partition: TopicPartition) -> bool:
        """Becomes the owner of a partition; returns False if another member is."""
        lock = filelock.take(self._folder / f"{partition.topic}+{partition.partition}")
        if lock is not None:
            self._locks[partition] = lock
        return lock is not None

    def give(self, partition: TopicPartition) -> None:
        """Gives a partition back."""
        filelock.release(self._locks.pop(partition))

    def leave(self) -> None:
        """Gives all partitions back and leaves the group."""
        for partition in list(self._locks):
            self.give(partition)
        filelock.discard(self._file)
        filelock.release(self._lock)

    def _wanted_by(self, member: str) -> tuple[str, ...]:
        if member not in self._topics_of:
            try:
                text = (self._folder / _MEMBERS / quote(member, safe="")).read_bytes()
            except FileNotFoundError:  # the member left meanwhile
                return ()
            self._topics_of[member] = _decode_topics(text)
        return self._topics_of[member]


def shares(
    member: str, topics: Mapping[str, int], wanting: Mapping[str, tuple[str, ...]]
) -> Mapping[str, int]:
    """Computes the share of `member`: a number of partitions of each topic. `wanting`: the members that want each topic, in
    order.

    The shares of all members add up to all partitions, and members that want the same topics differ by one partition at
    most.
    """
    result: dict[str, int] = {}
    dealt: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for topic, partitions in sorted(topics.items()):
        among = wanting[topic]
        if member in among:
            turn = (among.index(member) - dealt[among]) % len(among)
            result[topic] = partitions // len(among) + (turn < partitions % len(among))
            dealt[among] += partitions
    return result


def living_members(locks: Path, group: str) -> frozenset[str]:
    """Lists the names of the live members of a group. Raises OSError."""
    return frozenset(_living(_group_folder(locks, group)))


def _group_folder(locks: Path, group: str) -> Path:
    return locks / "groups" / quote(group, safe="")


def _living(folder: Path) -> Sequence[str]:
    """Lists the members whose file is locked, and removes the files of dead ones."""
    living: list[str] = []
    try:
        files = [entry for entry in os.scandir(folder / _MEMBERS) if not entry.name.startswith(".")]
    except FileNotFoundError:
        return living
    for entry in files:
        path = Path(entry.path)
        if filelock.is_held(path):
            living.append(unquote(entry.name))
        else:
            filelock.discard(path)
    return living

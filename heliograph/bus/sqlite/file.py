"""One opened bus file: the connections, the lock folder and the watch that a bus and its consumers share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from heliograph.bus.admission import check_sizes, check_topic
from heliograph.bus.sqlite import filelock
from heliograph.bus.sqlite.catalogue import Catalogue
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.readers import Readers
from heliograph.bus.sqlite.rows import Batch
from heliograph.bus.sqlite.schema import prepare_file
from heliograph.bus.sqlite.wakeup import Watch
from heliograph.bus.sqlite.writer import Writer
from schemas.clock import Clock
from schemas.errors import BusUnavailable
from schemas.record import NewRecord
from schemas.topics import kind_of


def lock_folder(path: Path) -> Path:
    """Names the folder of the lock files of a bus file."""
    return path.with_name(f"{path.name}.locks")


def users_lock(path: Path) -> Path:
    """Names the lock file that all processes share that have the bus open, and that `restore` needs for itself."""
    return lock_folder(path) / "users"


class BusFile:
    """A bus file, opened once by each bus. Safe to use from several threads."""

    def __init__(self, path: Path, partitions: int, clock: Clock) -> None:
        path = path.resolve()  # all names of the file share one lock folder
        self.path = path
        self.locks = lock_folder(path)
        self.clock = clock
        self.log_id = prepare_file(path, self.locks)
        with translated(path):
            self._use = filelock.take(users_lock(path), shared=True)
        if self._use is None:
            raise BusUnavailable(
                f"{path}: `heliograph restore` is replacing it; try again when that has ended"
            )
        self.writer = Writer(path)
        self.readers = Readers(path)
        self.catalogue = Catalogue(path)
        self.watch = Watch(self.catalogue)
        self._partitions = partitions
        self._turn = count()
        self.catalogue.refresh()

    def prepare(self, records: Sequence[NewRecord]) -> Batch:
        """Prepares records for writing, and creates missing topics.

        Raises RecordTooLarge, TopicMissing, and what creating a topic raises.
        """
        check_sizes(records)
        topics = self.catalogue.known().topics
        missing = {record.topic for record in records} - topics.keys()
        if missing:
            for topic in missing:
                check_topic(topic)
            for topic in sorted(missing):
                self.create(topic)
            topics = self.catalogue.refresh().topics
        return Batch(records, topics, next(self._turn))

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Creates a topic unless it exists. Without `partitions` it gets as many as `schemas.topics.kind_of` says, else the
        default of the bus.

        Raises TopicMissing for a name that Apache Kafka would refuse.
        """
        check_topic(topic)
        wanted = partitions or kind_of(topic).partitions or self._partitions
        self.writer.run(
            lambda connection: connection.execute(
                """WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?)
                   INSERT INTO partitions (topic, partition) SELECT ?, n FROM number
                   WHERE NOT EXISTS (SELECT 1 FROM partitions WHERE topic = ?)""",
                (wanted, topic, topic),
            ).close()
        )
        self.watch.notify()

    def close(self) -> None:
        """Closes all connections and gives the lock back."""
        self.watch.close()
        self.catalogue.close()
        self.readers.close()
        self.writer.close()
        if self._use is not None:
            filelock.release(self._use)
            self._use = None

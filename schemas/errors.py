"""All exceptions that the project raises on purpose.

HeliographError
├── InputError                  an input is wrong; the command line exits with 2
│   ├── InvalidNotification     bytes that are no notification; names the field
│   ├── InvalidExecution        bytes that are no execution record; names the field
│   ├── DuplicateEvent          an event that repeats another and was not routed
│   ├── InvalidSubscription     a wrong subscription file or record; lists every problem
│   ├── InvalidConfiguration    wrong values in heliograph.toml or the environment; lists every problem
│   └── NotFound                a name, id, topic or key that does not exist
├── BusError                    the bus failed
│   ├── BusUnavailable          locked or unreachable now; a later try may succeed
│   ├── BusFull                 no space left, or less than the reserve for verdicts and commits
│   ├── BusDamaged              the stored bytes differ from those that were written
│   ├── RecordTooLarge          a record above the limit of its topic
│   └── TopicMissing            a topic that does not exist and may not be created
├── JournalUnusable             an agent's journal cannot be read or written
└── StoreError                  the object store failed
    ├── StoreUnavailable        unreachable now; a later try may succeed
    ├── StoreRefused            no permission, no such bucket, or a store without an atomic `put_new`
    ├── ObjectMissing           no object has this key
    └── ArchiveBroken           the chain, a topic or a segment contradicts the archive
"""

from __future__ import annotations

from collections.abc import Sequence


class HeliographError(Exception):
    """Base of all errors. Its text is for a person: what is wrong, where, and what to do."""


class InputError(HeliographError):
    """An input from outside is wrong."""


class _FieldError(InputError):
    """One wrong field, with its problem."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class InvalidNotification(_FieldError):  # noqa: N818 - the name states the condition
    """Bytes that are not a notification."""


class InvalidExecution(_FieldError):  # noqa: N818
    """Bytes that are not an execution record."""


class DuplicateEvent(InputError):  # noqa: N818
    """An event with the same bytes as the one at the position `earlier`, which was routed."""

    def __init__(self, position: str, earlier: str) -> None:
        self.earlier = earlier
        super().__init__(f"event {position}: repeats {earlier}; only the first is routed")


class _ProblemList(InputError):  # noqa: N818
    """All problems of one input. Each problem is a line that names its key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class InvalidSubscription(_ProblemList):
    """A wrong subscription; no subscription of its file is applied."""


class InvalidConfiguration(_ProblemList):
    """A wrong configuration; no value of it is used."""


class NotFound(InputError):  # noqa: N818
    """A name, id, topic or key that does not exist."""


class BusError(HeliographError):
    """The bus failed."""


class BusUnavailable(BusError):  # noqa: N818
    """The bus is locked or unreachable now; a later try may succeed."""


class BusFull(BusError):  # noqa: N818
    """The bus has no space left, or less than its reserve for verdicts and commits."""


class BusDamaged(BusError):  # noqa: N818
    """The stored bytes differ from those that were written."""


class RecordTooLarge(BusError):  # noqa: N818
    """A record above the limit of its topic."""


class TopicMissing(BusError):  # noqa: N818
    """A topic that does not exist and may not be created."""


class JournalUnusable(HeliographError):  # noqa: N818
    """An agent's journal cannot be read or written."""


class StoreError(HeliographError):
    """The object store failed."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The object store is unreachable now; a later try may succeed."""


class StoreRefused(StoreError):  # noqa: N818
    """The object store refuses the request, and would refuse a repeat."""


class ObjectMissing(StoreError):  # noqa: N818
    """No object has this key."""


class ArchiveBroken(StoreError):  # noqa: N818
    """The chain, a topic or a segment contradicts the archive."""

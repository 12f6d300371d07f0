"""Everything this project raises on purpose.

HeliographError
├── InputError                  what somebody gave us is wrong; the command line exits with 2
│   ├── InvalidNotification     not a notification; names the field
│   ├── InvalidExecution        not an execution record; names the field
│   ├── DuplicateEvent          an event that repeats another, and was not routed
│   ├── InvalidSubscription     a subscription file or record; lists every problem
│   ├── InvalidConfiguration    heliograph.toml or the environment; lists every problem
│   └── NotFound                a name, id, topic or key that does not exist
├── BusError                    the log
│   ├── BusUnavailable          cannot be reached or opened now: locked, unreachable; trying again may help
│   ├── BusFull                 no space left, or below the reserve kept for verdicts and commits
│   ├── BusDamaged              what is stored is not what was written
│   ├── RecordTooLarge          a record above the limit of its topic
│   └── TopicMissing            a topic that neither exists nor may be made
├── JournalUnusable             the journal of an agent cannot be read or written
└── StoreError                  the object store
    ├── StoreUnavailable        trying again may help
    ├── StoreRefused            no permission, no such bucket, not a store that honours `put_new`
    ├── ObjectMissing           no object has this key
    └── ArchiveBroken           the chain, the log or a segment contradicts what was archived
"""

from __future__ import annotations

from collections.abc import Sequence


class HeliographError(Exception):
    """Root of the tree: its text is one line for a person, and says the remedy where there is one."""


class InputError(HeliographError):
    """What somebody gave us is wrong."""


class _OfField(InputError):  # noqa: N818 - the names read as what they are
    """One problem of one field."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class InvalidNotification(_OfField):
    """Bytes that are not a notification."""


class InvalidExecution(_OfField):
    """Bytes that are not an execution record."""


class DuplicateEvent(InputError):  # noqa: N818
    """An event whose bytes are those of the one at position `earlier`: that one was routed."""

    def __init__(self, position: str, earlier: str) -> None:
        self.earlier = earlier
        super().__init__(f"event {position}: repeats {earlier}; only the first is routed")


class _Listed(InputError):  # noqa: N818
    """Several problems of one input, each a line that names its key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class InvalidSubscription(_Listed):
    """A subscription that is not applied; nothing of its file is."""


class InvalidConfiguration(_Listed):
    """A configuration that is not used."""


class NotFound(InputError):  # noqa: N818
    """A name, id, topic or key that does not exist."""


class BusError(HeliographError):
    """The log failed."""


class BusUnavailable(BusError):  # noqa: N818
    """The log cannot be reached or opened now."""


class BusFull(BusError):  # noqa: N818
    """No space left, or below the reserve."""


class BusDamaged(BusError):  # noqa: N818
    """What is stored is not what was written."""


class RecordTooLarge(BusError):  # noqa: N818
    """A record above the limit of its topic."""


class TopicMissing(BusError):  # noqa: N818
    """A topic that neither exists nor may be made."""


class JournalUnusable(HeliographError):  # noqa: N818
    """The journal of an agent cannot be read or written."""


class StoreError(HeliographError):
    """The object store failed."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The object store cannot be reached now."""


class StoreRefused(StoreError):  # noqa: N818
    """The object store will not do it, however often it is asked."""


class ObjectMissing(StoreError):  # noqa: N818
    """No object has this key."""


class ArchiveBroken(StoreError):  # noqa: N818
    """The chain, the log or a segment contradicts what was archived."""

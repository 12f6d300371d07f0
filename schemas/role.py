"""The interface of a role: a part of a deployment that runs until it is stopped."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Role(Protocol):
    """A router, deliverer, wheel or archiver. One thread calls `step` in a loop; any thread may call the others."""

    @property
    def name(self) -> str:
        """Name of the role and of its consumer group."""
        ...

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that the role consumes: names and patterns."""
        ...

    def step(self, timeout: float) -> None:
        """Polls for up to `timeout` seconds, works, commits. Raises an error only if the role cannot continue."""
        ...

    def busy(self) -> bool:
        """True if the role has begun work that it has not committed, or has work that is due.

        Deliveries on the wheel before their due time do not count, nor do records buffered for a segment, which
        `flush` stores.
        """
        ...

    def flush(self) -> None:
        """Makes the next `step` store records that are buffered for a fuller batch."""
        ...

    def wake(self) -> None:
        """Makes a waiting `step` return soon."""
        ...

    def close(self) -> None:
        """Ends work in flight within seconds, commits, releases the partitions. Called after the last `step`."""
        ...


class Releasable(Protocol):
    """The methods of a consumer that `ConsumerRole` calls."""

    def wake(self) -> None:
        """Makes a waiting poll return soon."""
        ...

    def close(self) -> None:
        """Releases the partitions."""
        ...


ConsumerT = TypeVar("ConsumerT", bound=Releasable)


class ConsumerRole(Generic[ConsumerT]):
    """Base of roles with one consumer. It has the methods of `Role` that are the same in most roles."""

    _consumer: ConsumerT

    def flush(self) -> None:
        """Does nothing: no record is buffered between two steps."""

    def wake(self) -> None:
        """Makes a waiting `step` return soon."""
        self._consumer.wake()

    def close(self) -> None:
        """Releases the partitions; their next owners read the records that are not committed."""
        self._consumer.close()

"""What every long-running part of a deployment looks like to the process that runs it."""

from __future__ import annotations

from typing import Protocol


class Role(Protocol):
    """Router, deliverer, wheel, archiver. One thread calls `step` over and over; the others may be called from any."""

    @property
    def name(self) -> str:
        """Name of the role, which is also its consumer group."""
        ...

    @property
    def topics(self) -> tuple[str, ...]:
        """What the role consumes: names and patterns."""
        ...

    def step(self, timeout: float) -> None:
        """One turn of the loop: poll for up to `timeout` seconds, work, commit. Raises what it cannot go on from."""
        ...

    def busy(self) -> bool:
        """Whether something due is under way here: handed out and not finished, or finished and not yet committed.
        What waits only for its time (on the wheel) or for company (in a segment after `flush`) is not busy."""
        ...

    def flush(self) -> None:
        """Ask the next `step` to bring forward what waits only for company."""
        ...

    def wake(self) -> None:
        """Make a `step` that waits return soon."""
        ...

    def close(self) -> None:
        """Finish what is in flight within seconds, commit, give the partitions back. Called after the last `step`."""
        ...

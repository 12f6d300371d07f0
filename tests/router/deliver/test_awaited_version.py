"""The wait for a version of the configuration."""

from __future__ import annotations

from router.deliver.awaited_version import LIMIT_SECONDS, AwaitedVersion


def test_a_version_is_awaited_up_to_the_limit() -> None:
    awaited = AwaitedVersion()
    assert awaited.may_come(9, 1, 100.0)
    assert awaited.may_come(9, 1, 100.0 + LIMIT_SECONDS - 0.1)
    assert not awaited.may_come(9, 1, 100.0 + LIMIT_SECONDS)


def test_a_wait_that_no_delivery_needs_starts_again() -> None:
    awaited = AwaitedVersion()
    assert awaited.may_come(9, 1, 100.0)
    awaited.stop()
    assert awaited.may_come(10, 1, 100.0 + LIMIT_SECONDS)


def test_after_a_wait_in_vain_no_version_is_awaited_before_another_is_read() -> None:
    awaited = AwaitedVersion()
    assert awaited.may_come(9, 1, 100.0)
    assert not awaited.may_come(9, 1, 100.0 + LIMIT_SECONDS)
    awaited.stop()
    assert not awaited.may_come(10, 1, 500.0)
    awaited.reset()
    assert awaited.may_come(10, 2, 501.0)

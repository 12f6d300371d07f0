"""Test deliveries: one attempt at a target, without a record."""

from __future__ import annotations

import pytest

from heliograph.app.deployment import Deployment
from heliograph.bus.reading import read_topic
from heliograph.operations.subscriptions import apply
from heliograph.operations.trial import try_subscription, try_target
from schemas.delivery import Delivered, ReasonCode, Rejected
from schemas.errors import InvalidNotification, NotFound
from schemas.subscription import Subscription
from sinks.kinds import KINDS
from tests.router.events import event

QUEUE = {"id": "queue", "kind": "topic", "topic": "queue"}
CLOSED = {"id": "closed", "kind": "callback", "url": "http://127.0.0.1:1/"}


@pytest.fixture
def applied(deployment: Deployment) -> Deployment:
    one = Subscription.model_validate({"name": "both", "target": [QUEUE, CLOSED]})
    apply(deployment.bus, [one], KINDS)
    return deployment


def test_every_target_of_a_subscription_is_tried_once(applied: Deployment) -> None:
    queue, closed = try_subscription(applied, "both", event() + b"\n")
    assert (queue.target.id, closed.target.id) == ("queue", "closed")
    assert isinstance(queue.outcome, Delivered)
    assert isinstance(closed.outcome, Rejected)
    assert closed.outcome.reason.code is ReasonCode.FORBIDDEN
    assert [record.value for record in read_topic(applied.bus, "queue")] == [event()]
    assert "deliveries" not in applied.bus.topics()


def test_a_notification_is_built_if_none_is_given(applied: Deployment) -> None:
    assert isinstance(try_target(applied, "queue").outcome, Delivered)
    (record,) = read_topic(applied.bus, "queue")
    assert b"i-heliograph-test" in record.value


def test_unknown_names_and_invalid_notifications_are_refused(applied: Deployment) -> None:
    with pytest.raises(NotFound, match="no subscription named 'none'"):
        try_subscription(applied, "none")
    with pytest.raises(NotFound, match="no target with the id 'none'"):
        try_target(applied, "none")
    with pytest.raises(InvalidNotification):
        try_target(applied, "queue", b"{}")

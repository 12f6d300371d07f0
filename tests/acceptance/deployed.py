"""Environments of the product in a test: on one machine, or with a Kafka namespace and a bucket of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from tests.services.kafka import Kafka
from tests.services.s3 import ENVIRONMENT, Service

EMBEDDED: Mapping[str, str] = {}


def on_cluster(kafka: Kafka, store: Service) -> Mapping[str, str]:
    """Returns the environment of a deployment with a namespace and a bucket of its own.

    A test that reads the stores from its own process needs `tests.services.s3.ENVIRONMENT` there.
    """
    bucket = store.bucket()
    return {
        **ENVIRONMENT,
        "HELIOGRAPH_BUS_URL": f"kafka://{kafka.address}?namespace=n{uuid.uuid4().hex[:8]}",
        "HELIOGRAPH_BUS_PARTITIONS": "4",
        "HELIOGRAPH_ARCHIVE_URL": store.url(bucket, "archive"),
        "HELIOGRAPH_DELIVERY_OBJECTS": store.url(bucket, "objects"),
    }

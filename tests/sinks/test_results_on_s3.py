"""Execution records in a bucket, encrypted as the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from heliograph.store.open import store_at
from schemas.delivery import Delivered, Outcome
from sinks.objects.executions import Results, ResultsSettings, ResultsSink
from tests.executions import command
from tests.services.minio import run
from tests.services.obtain import Unavailable, unavailable
from tests.services.s3 import ENVIRONMENT, Service
from tests.sinks.test_results import delivery

KEY = "heliograph-tests"


@pytest.fixture(scope="module")
def encrypting() -> Iterator[Service]:
    """A server with an encryption key."""
    try:
        found = run(MINIO_KMS_SECRET_KEY=f"{KEY}:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    except Unavailable as error:
        unavailable(error)
        raise
    yield found
    found.stop()


@pytest.mark.parametrize(
    ("encryption", "found"),
    [
        ({}, None),
        ({"encryption": "AES256"}, "AES256"),
        ({"encryption": "kms", "kms_key": KEY}, "aws:kms"),
    ],
)
def test_objects_are_encrypted_as_the_settings_say(
    encrypting: Service, monkeypatch: pytest.MonkeyPatch, encryption: dict[str, str], found: str | None
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    bucket = encrypting.bucket()
    settings = ResultsSettings.model_validate({"url": encrypting.url(bucket), **encryption})

    async def send() -> Outcome:
        sink = ResultsSink(Results(settings, store_at(settings.store_url)))
        try:
            return (await sink.deliver([delivery(command())]))[0]
        finally:
            await sink.close()

    assert asyncio.run(send()) == Delivered("invocationResults/t-0/i-0/1.json")
    head = encrypting.client().head_object(Bucket=bucket, Key="invocationResults/t-0/i-0/1.json")
    assert head.get("ServerSideEncryption") == found

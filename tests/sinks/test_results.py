"""Sinks that store execution records as objects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.memory import MemoryBus
from heliograph.store.base import ObjectStore
from heliograph.store.keys import key_problem
from heliograph.store.memory import MemoryStore
from heliograph.store.open import store_at
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.delivery_settings import PREFIX_LIMIT
from schemas.errors import InputError, StoreRefused, StoreUnavailable
from schemas.execution import ID, check_execution
from schemas.record import Position
from sinks.base import Sink, SinkContext
from sinks.objects.executions import KIND, Layout, Results, ResultsSettings, ResultsSink
from tests.conformance.sink import SecretDriver, SecretSinkConformance, SinkDriver
from tests.executions import command, file
from tests.sinks.test_objects import StoreDriver


def delivery(value: bytes, number: int = 0) -> Delivery:
    return Delivery(
        id=f"id{number}",
        source=Position("executions", 0, number),
        subscription="executions@cn",
        target="bucket@cn",
        resource="i",
        event=value,
        event_time=0,
        configuration=0,
    )


def deliver(store: ObjectStore, values: Sequence[bytes], **settings: str) -> Sequence[Outcome]:
    return asyncio.run(
        _deliver(
            Results(ResultsSettings.model_validate({"url": "memory://", **settings}), lambda: store), values
        )
    )


async def _deliver(results: Results, values: Sequence[bytes]) -> Sequence[Outcome]:
    sink = ResultsSink(results)
    try:
        return await sink.deliver([delivery(value, number) for number, value in enumerate(values)])
    finally:
        await sink.close()


def stored(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list("")}


def test_a_command_and_its_script_are_stored_under_the_manuals_keys() -> None:
    store = MemoryStore()
    value = command()
    assert deliver(store, [value], prefix="audit") == [Delivered("audit/invocationResults/t-0/i-0/1.json")]
    assert stored(store) == {
        "audit/invocationResults/t-0/commandContent.sh": b"hostname",
        "audit/invocationResults/t-0/i-0/1.json": value,
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [("RunShellScript", "sh"), ("RunBatScript", "bat"), ("RunPowerShellScript", "ps1")],
)
def test_the_script_has_the_extension_of_its_type(kind: str, name: str) -> None:
    store = MemoryStore()
    deliver(store, [command(CommandType=kind)])
    assert f"invocationResults/t-0/commandContent.{name}" in stored(store)


def test_each_run_of_a_recurring_command_is_stored_under_its_number() -> None:
    store = MemoryStore()
    deliver(store, [command(Repeats=number, RepeatMode="Period") for number in range(1, 12)])
    names = {key.rpartition("/")[2] for key in stored(store)}
    assert names == {f"{number}.json" for number in range(1, 12)} | {"commandContent.sh"}


def test_a_file_record_and_its_content_are_stored() -> None:
    store = MemoryStore()
    value = file()
    assert deliver(store, [value]) == [Delivered("sendFileResults/f-0/i-0/1.json")]
    assert stored(store) == {
        "sendFileResults/f-0/fileContent.txt": b"send file test",
        "sendFileResults/f-0/i-0/1.json": value,
    }


def test_record_name_and_file_content_can_be_set() -> None:
    store = MemoryStore()
    deliver(store, [file(), command()], record_name="run-{Repeats}", file_content="as-sent")
    found = stored(store)
    assert found["sendFileResults/f-0/fileContent.txt"] == b"c2VuZCBmaWxlIHRlc3Q="
    assert {"sendFileResults/f-0/i-0/run-1", "invocationResults/t-0/i-0/run-1"} <= set(found)


def test_content_that_cannot_be_decoded_is_stored_as_sent() -> None:
    store = MemoryStore()
    refused = {"ErrorCode": "FileContentInvalid", "ErrorInfo": "not Base64", "InvocationStatus": "Invalid"}
    deliver(store, [file(FileContent="%%%", **refused)])
    assert stored(store)["sendFileResults/f-0/fileContent.txt"] == b"%%%"


def test_a_repeat_is_delivered_and_a_different_record_rejected() -> None:
    store = MemoryStore()
    value, other = command(), command(Output="else")
    first, repeat = deliver(store, [value]), deliver(store, [value])
    assert first == repeat
    (collision,) = deliver(store, [other])
    assert collision == Rejected(
        Reason(
            ReasonCode.REFUSED, "object 'invocationResults/t-0/i-0/1.json' exists already with another record"
        )
    )
    assert stored(store)["invocationResults/t-0/i-0/1.json"] == value


def test_a_different_script_is_logged_and_its_record_stored() -> None:
    store = MemoryStore()
    first, other = command(), command(InstanceId="i-1", CommandContent="id", Repeats=2)
    with structlog.testing.capture_logs() as logs:
        outcomes = [*deliver(store, [first]), *deliver(store, [command(Repeats=3)])]
        assert logs == []
        outcomes += deliver(store, [other])
    assert all(isinstance(one, Delivered) for one in outcomes)
    assert [(one["event"], one["key"]) for one in logs] == [
        (
            "other content exists already, this content is in its record only",
            "invocationResults/t-0/commandContent.sh",
        )
    ]
    found = stored(store)
    assert found["invocationResults/t-0/commandContent.sh"] == b"hostname"
    assert found["invocationResults/t-0/i-1/2.json"] == other


class Failing(MemoryStore):
    """Raises the error given for each method."""

    def __init__(self, **errors: Exception) -> None:
        super().__init__()
        self._errors = errors

    def put_new(self, key: str, body: bytes) -> bool:
        if "put_new" in self._errors:
            raise self._errors["put_new"]
        return super().put_new(key, body)

    def get(self, key: str) -> bytes:
        if "get" in self._errors:
            raise self._errors["get"]
        return super().get(key)


def test_without_read_permission_the_receipt_says_that_the_key_is_taken() -> None:
    store = Failing(get=StoreRefused("not permitted"))
    value = command()
    deliver(store, [value])
    (repeat,) = deliver(store, [value])
    key = "invocationResults/t-0/i-0/1.json"
    assert repeat == Delivered(f"{key}: exists already, and may not be read to compare it")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreRefused("not permitted"), ReasonCode.MISCONFIGURED),
        (StoreUnavailable("down"), ReasonCode.UNAVAILABLE),
    ],
)
def test_a_store_that_denies_or_fails_is_a_retry(error: Exception, code: ReasonCode) -> None:
    (outcome,) = deliver(Failing(put_new=error), [command()])
    assert outcome == Retry(Reason(code, f"object store: {error}"))


def test_a_store_that_cannot_be_opened_is_a_retry() -> None:
    def missing() -> ObjectStore:
        raise InputError("env:S3_KEY: the environment has no variable S3_KEY")

    results = Results(ResultsSettings(url="memory://"), missing)
    (outcome,) = asyncio.run(_deliver(results, [command()]))
    assert isinstance(outcome, Retry)
    assert "S3_KEY" in outcome.reason.detail


def test_an_invalid_record_is_rejected_alone() -> None:
    bad, good = deliver(MemoryStore(), [b"{}", command()])
    assert isinstance(bad, Rejected)
    assert bad.reason.detail.startswith("not an execution record: record: has neither CommandId")
    assert isinstance(good, Delivered)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prefix": "/audit"}, "must not begin with /"),
        ({"prefix": "\\audit"}, "must not begin with /"),
        ({"prefix": "a/../b"}, "must be relative"),
        ({"prefix": "x" * 255}, "at most 254 characters"),
        ({"record_name": "record.json"}, "must hold {Repeats} once"),
        ({"record_name": "{Repeats}/{Repeats}"}, "must hold {Repeats} once"),
        ({"record_name": "a/{Repeats}.json"}, "must not hold `/`"),
        ({"record_name": "{"}, "is not a template"),
        ({"url": "ftp://x"}, "unknown kind; known are file://, memory://, s3://"),
        ({"url": "s3://audit?access_key=plain"}, "write env:NAME or file:PATH"),
        ({"encryption": "AES256"}, "only buckets (s3://) encrypt"),
        ({"kms_key": "k"}, "only encryption kms uses a key"),
        ({"url": "s3://audit?sse=AES256", "encryption": "AES256"}, "sse: is given twice"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ResultsSettings.model_validate({"url": "memory://", **settings})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("encryption", "url"),
    [
        ({}, "s3://audit"),
        ({"encryption": "AES256"}, "s3://audit?sse=AES256"),
        ({"encryption": "kms"}, "s3://audit?sse=aws:kms"),
        ({"encryption": "kms", "kms_key": "key/1"}, "s3://audit?sse=aws:kms&kms_key=key/1"),
    ],
)
def test_the_encryption_is_passed_to_the_store(encryption: dict[str, str], url: str) -> None:
    assert ResultsSettings.model_validate({"url": "s3://audit", **encryption}).store_url == url


def test_the_longest_prefix_is_accepted() -> None:
    assert ResultsSettings(url="memory://", prefix="x" * 254).prefix == "x" * 254
    assert ResultsSettings(url="memory://", prefix="audit/").prefix == "audit"


def test_the_kind_opens_its_own_store(tmp_path: Path) -> None:
    settings = KIND.settings.model_validate({"url": (tmp_path / "bucket").as_uri()})
    sink_context = SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=tmp_path)

    async def send() -> Sequence[Outcome]:
        sink = KIND.build(settings, sink_context)
        assert not (tmp_path / "bucket").exists()
        try:
            return await sink.deliver([delivery(command())])
        finally:
            await sink.close()

    assert isinstance(asyncio.run(send())[0], Delivered)
    assert (tmp_path / "bucket/invocationResults/t-0/commandContent.sh").read_bytes() == b"hostname"


IDS = st.from_regex(ID, fullmatch=True)


@given(st.lists(st.tuples(IDS, IDS, st.integers(1, 2**63 - 1)), min_size=2, max_size=2, unique=True))
def test_every_record_has_its_own_key_in_every_store(keys: list[tuple[str, str, int]]) -> None:
    layout = Layout("x" * PREFIX_LIMIT, "{Repeats}.json")
    records = [
        check_execution(command(InvokeId=invoke_id, InstanceId=instance_id, Repeats=repeats))
        for invoke_id, instance_id, repeats in keys
    ]
    names = {layout.record(record) for record in records}
    assert len(names) == 2
    assert not any(key_problem(key) for key in (*names, *map(layout.content, records)))


class ResultsDriver(StoreDriver, SecretDriver):
    """Sinks of execution records that go to a store."""

    def build(self, *, patient: bool = True) -> Sink:
        return ResultsSink(Results(ResultsSettings(url="memory://"), lambda: self.store))

    def make(self, number: int, text: bytes = b"ok") -> Delivery:
        record = command(Repeats=number + 1, RepeatMode="Period", Output="TEXT")
        return delivery(record.replace(b"TEXT", text), number)

    def make_bad(self, number: int) -> Delivery:
        return delivery(b"{}", number)

    def build_failing(self, secret: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[Sink]:
        monkeypatch.setenv("S3_SECRET", secret)
        monkeypatch.setenv("S3_KEY", secret)
        url = "s3://audit?endpoint=http://127.0.0.1:9&access_key=env:S3_KEY&secret_key=env:S3_SECRET&region=a"
        settings = ResultsSettings.model_validate({"url": url})
        return [ResultsSink(Results(settings, store_at(settings.store_url)))]


class TestResultsConformance(SecretSinkConformance):
    @pytest.fixture
    def driver(self) -> SinkDriver:
        return ResultsDriver()

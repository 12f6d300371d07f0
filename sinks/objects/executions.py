"""Kind `results`: stores execution records as objects under the keys of Operation Content and Result Delivery.

`<prefix>/invocationResults/<InvokeId>/commandContent.sh` (`.bat`, `.ps1`) and `<InstanceId>/<Repeats>.json` beside it;
`<prefix>/sendFileResults/<InvokeId>/fileContent.txt` and `<InstanceId>/1.json` beside it (ECS user manual, query O&M
task execution records in the OSS console). Existing objects are never replaced, and permission to write new objects is
enough. With permission to read, a different record under the same key is detected.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from string import Formatter
from threading import Lock
from urllib.parse import urlencode, urlsplit

import structlog
from pydantic import field_validator, model_validator

from heliograph.store.base import ObjectStore
from heliograph.store.keys import key_problem
from heliograph.store.open import store_at
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.delivery_settings import BucketDelivery
from schemas.errors import InputError, InvalidExecution, ObjectMissing, StoreRefused, StoreUnavailable
from schemas.execution import CommandRecord, CommandType, ExecutionRecord, FileRecord, check_execution
from sinks.base import Sink, SinkContext, SinkKind
from sinks.objects.events import ObjectSink

COMMANDS = "invocationResults"
FILES = "sendFileResults"
EXTENSIONS = {CommandType.SHELL: "sh", CommandType.BAT: "bat", CommandType.POWER_SHELL: "ps1"}

_SSE = {"AES256": "AES256", "kms": "aws:kms"}
_REMEMBERED = 10_000
"""Keys of contents that are known to be stored, with their digests, so that they are not sent for each instance again."""
_log = structlog.get_logger()


class ResultsSettings(BucketDelivery):
    """Delivery settings of a bucket, whose URL, root directory and record name are checked."""

    @field_validator("prefix")
    @classmethod
    def _prefix_is_a_key(cls, prefix: str) -> str:
        if prefix and key_problem(prefix):
            raise ValueError(key_problem(prefix))
        return prefix

    @field_validator("record_name")
    @classmethod
    def _name_is_a_template(cls, name: str) -> str:
        try:
            parts = list(Formatter().parse(name))
        except ValueError as error:
            raise ValueError(f"is not a template: {error}") from None
        if [part[1:] for part in parts if part[1] is not None] != [("Repeats", "", None)]:
            raise ValueError("must hold {Repeats} once, and no other field")
        problem = key_problem(name.format(Repeats=1)) or ("must not hold `/`" if "/" in name else "")
        if problem:
            raise ValueError(problem)
        return name

    @model_validator(mode="after")
    def _store_can_be_named(self) -> ResultsSettings:
        try:
            store_at(self.store_url)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def store_url(self) -> str:
        """The store's URL with the encryption as a parameter. Raises ValueError if the store cannot encrypt."""
        if self.encryption == "inherit":
            return self.url
        if not self.url.startswith("s3://"):
            raise ValueError("encryption: only buckets (s3://) encrypt; leave it out, or name a bucket")
        asked = {"sse": _SSE[self.encryption], **({"kms_key": self.kms_key} if self.kms_key else {})}
        return f"{self.url}{'&' if urlsplit(self.url).query else '?'}{urlencode(asked, safe=':/')}"


class Layout:
    """The keys of a record and of its content, below the root directory. Does no I/O."""

    def __init__(self, prefix: str, record_name: str) -> None:
        self._base = f"{prefix}/" if prefix else ""
        self._record_name = record_name

    def record(self, record: ExecutionRecord) -> str:
        """Returns the key of the record's object."""
        name = self._record_name.format(Repeats=record.key.repeats)
        return f"{self._folder(record)}/{record.instance_id}/{name}"

    def content(self, record: ExecutionRecord) -> str:
        """Returns the key of the object with the script or the file, one for all instances."""
        match record:
            case CommandRecord():
                return f"{self._folder(record)}/commandContent.{EXTENSIONS[record.command_type]}"
            case FileRecord():
                return f"{self._folder(record)}/fileContent.txt"

    def _folder(self, record: ExecutionRecord) -> str:
        kind = COMMANDS if isinstance(record, CommandRecord) else FILES
        return f"{self._base}{kind}/{record.invoke_id}"


class Results:
    """Puts records into one store, which the first record opens. Thread-safe."""

    def __init__(self, settings: ResultsSettings, open_store: Callable[[], ObjectStore]) -> None:
        self._layout = Layout(settings.prefix, settings.record_name)
        self._as_sent = settings.file_content == "as-sent"
        self._open = open_store
        self._store: ObjectStore | None = None
        self._lock = Lock()
        self._stored: dict[str, bytes] = {}

    def put(self, delivery: Delivery) -> Outcome:
        """Stores the content, then the record, unless they are stored already; the receipt is the record's key.

        If the store denies access, the delivery is retried until the permission is granted, since records must be
        complete.
        """
        try:
            record = check_execution(delivery.event)
            store = self._open_once()
            self._put_content(store, self._layout.content(record), _content(record, as_sent=self._as_sent))
            return self._put_record(store, self._layout.record(record), delivery.event)
        except InvalidExecution as error:
            return Rejected(Reason(ReasonCode.REFUSED, f"not an execution record: {error}"))
        except (StoreRefused, InputError) as error:
            return Retry(Reason(ReasonCode.MISCONFIGURED, f"object store: {error}"))
        except (StoreUnavailable, ObjectMissing) as error:
            return Retry(Reason(ReasonCode.UNAVAILABLE, f"object store: {error}"))

    def close(self) -> None:
        """Closes the store."""
        if self._store is not None:
            self._store.close()

    def _open_once(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def _put_content(self, store: ObjectStore, key: str, content: bytes) -> None:
        """Stores the content once for all instances. Different content under the key is logged and not replaced: each
        record holds its own content as well."""
        digest = blake2b(content, digest_size=16).digest()
        if self._stored.get(key) == digest:
            return
        if not store.put_new(key, content) and _read(store, key) not in {None, content}:
            _log.error("other content exists already, this content is in its record only", key=key)
            return
        with self._lock:
            self._stored[key] = digest
            if len(self._stored) > _REMEMBERED:
                del self._stored[next(iter(self._stored))]

    def _put_record(self, store: ObjectStore, key: str, body: bytes) -> Outcome:
        if store.put_new(key, body):
            return Delivered(key)
        there = _read(store, key)
        if there is None:
            _log.warning("a record exists already and may not be read to compare it", key=key)
            return Delivered(f"{key}: exists already, and may not be read to compare it")
        if there == body:
            return Delivered(key)
        return Rejected(Reason(ReasonCode.REFUSED, f"object {key!r} exists already with another record"))


def _read(store: ObjectStore, key: str) -> bytes | None:
    """Returns the content of an object, or None if it may not be read."""
    try:
        return store.get(key)
    except StoreRefused:
        return None


def _content(record: ExecutionRecord, *, as_sent: bool) -> bytes:
    """Returns the script as plain text, or the file: decoded, or as it was sent if it cannot be decoded or `as_sent` is
    True."""
    if isinstance(record, CommandRecord):
        return record.command_content.encode()
    try:
        return record.file_content.encode() if as_sent else record.content
    except ValueError:
        return record.file_content.encode()


class ResultsSink(ObjectSink):
    """Puts records into a store of its own, which it closes."""

    def __init__(self, results: Results) -> None:
        super().__init__(results.put)
        self._results = results

    async def close(self) -> None:
        """Waits for puts that are running, then closes the store."""
        await super().close()
        self._results.close()


def _build(settings: ResultsSettings, context: SinkContext) -> Sink:
    return ResultsSink(Results(settings, store_at(settings.store_url)))


def _examine(settings: ResultsSettings, context: Callable[[], SinkContext]) -> None:
    """Opens the store. Raises StoreError or InputError if it cannot be opened."""
    store_at(settings.store_url)().close()


KIND = SinkKind(ResultsSettings, _build, batch=64, examine=_examine)

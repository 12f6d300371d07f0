"""`S3Store`: an ObjectStore in a bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from heliograph.store.base import ObjectInfo
from heliograph.store.keys import KEY_LIMIT, check_key
from heliograph.store.s3.client import Call, connect, content_md5
from heliograph.store.s3.errors import Foreign, KeyTaken, UploadGone, translated
from heliograph.store.s3.listing import list_objects
from heliograph.store.s3.location import Flavor, Location
from heliograph.store.s3.upload import PART_SIZE, Upload, abort_leftovers
from schemas.errors import ObjectMissing, StoreRefused, StoreUnavailable

PAUSES = (0.2, 0.8)
"""Seconds before the second and the third attempt at a request that failed and may succeed."""
PATIENCE = 20.0
"""Seconds after which a failed request is not retried: more than one time-out, less than two."""
WRITER = "heliograph-put"
"""Name of the metadata by which a write recognises its own object."""
_VERSION_HEADERS = ("x-oss-version-id", "x-amz-version-id")


class S3Store:
    """Objects below a prefix of a bucket.

    `put_new` is a conditional write with an id in the object's metadata. If the condition fails, `put_new` reads the id of
    the existing object, because after a lost answer (a time-out, a 5xx, a broken connection) that object may be its own.
    So of several writers exactly one gets True, even with the same bytes. A writer that may not read cannot compare ids,
    and gets False for every existing key.
    Bodies above `part_size` bytes are uploaded in parts, and appear whole or not at all.
    """

    def __init__(self, location: Location, *, part_size: int = PART_SIZE) -> None:
        self._location = location
        self._client = connect(location)
        self._part_size = part_size
        self._may_have_leftovers = True

    @property
    def url(self) -> str:
        """The URL that opens the same store; it holds references to secrets, not the secrets."""
        return self._location.url

    def put_new(self, key: str, body: bytes) -> bool:
        """Stores an object if its key is free. If the answer is unclear, compares the id of the existing object."""
        writer = uuid4().hex
        try:
            answer = self._write(key, body, writer, {"IfNoneMatch": "*"})
        except KeyTaken as error:
            try:
                there = self._read_writer(key)
            except StoreRefused:
                return False
            if there is None:
                raise StoreUnavailable(f"{error}, and a moment later none has; retried later") from error
            return there == writer
        self._refuse_versions(answer)
        return True

    def put(self, key: str, body: bytes) -> None:
        """Stores or replaces an object."""
        self._write(key, body, uuid4().hex, {})

    def get(self, key: str) -> bytes:
        """Reads a whole object. Raises ObjectMissing."""
        body: bytes = self._do(f"get {key}", self._read, **self._at(key))
        return body

    def head(self, key: str) -> ObjectInfo | None:
        """Returns size and time of an object; None if it does not exist."""
        found = self._head(key)
        if found is None:
            return None
        return ObjectInfo(key, found["ContentLength"], int(found["LastModified"].timestamp() * 1000))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yields objects in the order of their keys' bytes; requests each page when it is needed."""
        return list_objects(self._client, self._do, self._location, prefix=prefix, after=after)

    def delete(self, key: str) -> None:
        """Deletes an object, if it exists."""
        try:
            self._do(f"delete {key}", self._client.delete_object, **self._at(key))
        except ObjectMissing:
            return

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _write(
        self, key: str, body: bytes, writer: str, condition: Mapping[str, object]
    ) -> Mapping[str, Any]:
        described = {**self._at(key), **self._write_settings(), "Metadata": {WRITER: writer}}
        if len(body) <= self._part_size:
            whole = {"Body": body, "ContentMD5": content_md5(body)}
            done: Mapping[str, Any] = self._do(
                f"put {key}", self._client.put_object, **described, **whole, **condition
            )
            return done
        self._abort_leftovers_once()
        try:
            upload = Upload(self._client, self._do, self._at(key), self._part_size)
            return upload.run(described, body, condition)
        except UploadGone as error:
            if self._read_writer(key) == writer:
                return {}
            raise StoreUnavailable(str(error)) from error

    def _read_writer(self, key: str) -> str | None:
        """Reads the id of the write that made an object, empty if it has none; None without an object."""
        found = self._head(key)
        return None if found is None else found["Metadata"].get(WRITER, "")

    def _head(self, key: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._do(f"head {key}", self._client.head_object, **self._at(key))
        except ObjectMissing:
            return None
        return found

    def _at(self, key: str) -> dict[str, str]:
        check_key(key)
        full = self._location.base + key
        if len(full.encode()) > KEY_LIMIT:
            raise StoreRefused(
                f"object key {key[:200]!r}: has more than {KEY_LIMIT} bytes below {self._location.name}"
            )
        return {"Bucket": self._location.bucket, "Key": full}

    def _write_settings(self) -> dict[str, str]:
        location = self._location
        settings = {
            "ServerSideEncryption": location.sse,
            "SSEKMSKeyId": location.kms_key,
            "StorageClass": location.storage_class,
        }
        return {name: value for name, value in settings.items() if value}

    def _refuse_versions(self, answer: Mapping[str, Any]) -> None:
        """Raises StoreRefused on a versioned bucket of OSS, which ignores the condition (OSS API reference,
        x-oss-forbid-overwrite)."""
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if self._location.flavor is Flavor.OSS and any(headers.get(name) for name in _VERSION_HEADERS):
            raise StoreRefused(
                f"{self._location.name}: on a versioned bucket OSS replaces objects that must stay; "
                "use a bucket on which versioning was never enabled"
            )

    def _abort_leftovers_once(self) -> None:
        if self._may_have_leftovers:
            self._may_have_leftovers = False
            abort_leftovers(self._client, self._location)

    def _read(self, **where: str) -> bytes:
        body: bytes = self._client.get_object(**where)["Body"].read()
        return body

    def _do(self, what: str, call: Call, **parameters: object) -> Any:  # noqa: ANN401 - the call's own answer
        """Makes a call; retries up to twice within PATIENCE if that may help. Raises StoreError."""
        began = time.monotonic()
        for pause in PAUSES:
            try:
                return self._try(what, call, parameters)
            except StoreUnavailable:
                if time.monotonic() - began > PATIENCE:
                    raise
            time.sleep(pause)
        return self._try(what, call, parameters)

    def _try(self, what: str, call: Call, parameters: Mapping[str, object]) -> Any:  # noqa: ANN401
        try:
            return call(**parameters)
        except Foreign as error:
            raise translated(error, f"{self._location.name}: {what}") from error

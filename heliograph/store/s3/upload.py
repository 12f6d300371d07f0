"""Uploads a large object in parts; it appears at once when all parts have arrived."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog

from heliograph.store.s3.client import Call, Client, content_md5
from heliograph.store.s3.errors import Foreign, translated
from heliograph.store.s3.location import Location
from schemas.errors import StoreError

log = structlog.get_logger()

PART_SIZE = 16 * 2**20
"""Bytes of a part; S3 demands at least 5 MiB for all but the last."""
LEFTOVER_AGE = timedelta(days=1)
"""Age of an upload that was left by a crash; the upload of the archive's largest segment takes minutes."""


class Do(Protocol):
    """Makes one request with the store's retries. `what`: the request in words, for messages."""

    def __call__(self, what: str, call: Call, **parameters: object) -> Any:  # noqa: ANN401
        """Returns the call's answer. Raises StoreError."""
        ...


class Upload:
    """One upload of one object."""

    def __init__(self, client: Client, do: Do, where: Mapping[str, str], part_size: int) -> None:
        self._client = client
        self._do = do
        self._where = where
        self._part_size = part_size

    def run(
        self, described: Mapping[str, object], body: bytes, condition: Mapping[str, object]
    ) -> Mapping[str, Any]:
        """Begins the upload, sends the parts, and completes it under the condition; returns the last answer.

        After a failure it aborts the upload, if the store can be reached. Raises KeyTaken if the condition does not hold.
        Raises UploadGone if the upload had ended already: it was completed and the answer lost, or another process aborted
        it; the existing object tells which.
        """
        key = self._where["Key"]
        begun = self._do(f"begin {key}", self._client.create_multipart_upload, **described)
        upload = {**self._where, "UploadId": begun["UploadId"]}
        try:
            parts = [
                self._part(upload, number, body[at : at + self._part_size])
                for number, at in enumerate(range(0, len(body), self._part_size), start=1)
            ]
            completed: Mapping[str, Any] = self._do(
                f"complete {key}",
                self._client.complete_multipart_upload,
                **upload,
                MultipartUpload={"Parts": parts},
                **condition,
            )
        except BaseException:
            with suppress(*Foreign):
                self._client.abort_multipart_upload(**upload)
            raise
        return completed

    def _part(self, upload: Mapping[str, str], number: int, body: bytes) -> dict[str, object]:
        answer = self._do(
            f"part {number} of {upload['Key']}",
            self._client.upload_part,
            **upload,
            PartNumber=number,
            Body=body,
            ContentMD5=content_md5(body),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}


def abort_leftovers(client: Client, location: Location) -> None:
    """Aborts uploads that crashes left below the prefix. If the store refuses, they stay until its own rules remove them."""
    old = datetime.now(UTC) - LEFTOVER_AGE
    bucket = {"Bucket": location.bucket}
    try:
        found = client.list_multipart_uploads(**bucket, Prefix=location.base)
        for upload in found.get("Uploads", ()):
            if upload["Initiated"] < old:
                client.abort_multipart_upload(**bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except Foreign as error:
        problem: StoreError = translated(error, location.name)
        log.warning("uploads left by crashes could not be aborted", error=str(problem))

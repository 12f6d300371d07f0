"""boto3's client, configured for one location."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

import boto3.session
from botocore.config import Config

from heliograph.store.s3.location import Flavor, Location

CONNECT_SECONDS = 5.0
"""Time limit in seconds of making a connection."""
READ_SECONDS = 15.0
"""Time limit in seconds of waiting for the next bytes of an answer."""
CONNECTIONS = 32
"""Connections kept open, at most."""
_DEFAULT_REGION = "us-east-1"

Call = Callable[..., Any]


class Client(Protocol):
    """The calls of boto3's client that we use. Safe to use from several threads."""

    put_object: Call
    get_object: Call
    head_object: Call
    delete_object: Call
    list_objects_v2: Call
    create_multipart_upload: Call
    upload_part: Call
    complete_multipart_upload: Call
    abort_multipart_upload: Call
    list_multipart_uploads: Call

    def close(self) -> None:
        """Closes the connections."""
        ...


def connect(location: Location) -> Client:
    """Makes a client; sends nothing yet. Raises InputError if a secret is not where its reference says.

    A body is signed with its sha256, so the store refuses one that was changed on the way. With that signature and without
    further checksums botocore sends bodies whole, never aws-chunked, which every store understands.
    botocore does not retry: `S3Store` does.
    """
    session: Any = boto3.session.Session()
    client: Any = session.client(
        "s3",
        region_name=location.region or session.region_name or _DEFAULT_REGION,
        endpoint_url=location.endpoint or None,
        aws_access_key_id=location.access_key.reveal() if location.access_key else None,
        aws_secret_access_key=location.secret_key.reveal() if location.secret_key else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            s3={"addressing_style": str(location.style), "payload_signing_enabled": True},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    if location.flavor is Flavor.OSS:
        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"before-call.s3.{operation}", _forbid_overwrite)
    return client  # type: ignore[no-any-return]


def content_md5(body: bytes) -> str:
    """Computes the `Content-MD5` of a write. Without it SeaweedFS stores an empty object if the writer dies between the
    head and the body of a request; with it, it refuses that object."""
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _forbid_overwrite(params: MutableMapping[str, Any], **_: object) -> None:
    """Translates the condition of a write into that of OSS (OSS API reference, PutObject: x-oss-forbid-overwrite)."""
    headers = params["headers"]
    if "If-None-Match" in headers:
        del headers["If-None-Match"]
        headers["x-oss-forbid-overwrite"] = "true"

"""Translates errors of a bucket into Heliograph's: one table for answers, one for failures without an answer.

Codes are those of the S3 API reference (Error responses), of MinIO (`XMinio…`, `SlowDownRead`) and of OSS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from schemas.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable

Foreign = (ClientError, BotoCoreError, HTTPError, OSError)
"""Every exception that boto3 raises about a request."""


class KeyTaken(StoreRefused):
    """The condition of a write failed: an object has this key."""


class UploadGone(StoreRefused):
    """A multipart upload was completed or aborted already."""


class Meaning(NamedTuple):
    """The exception to raise, and its message: the problem and the remedy."""

    raises: type[StoreError]
    text: str


_BUCKET = Meaning(StoreRefused, "the bucket does not exist; create it, or name another in the URL")
_DENIED = Meaning(
    StoreRefused,
    "not permitted; give this access key the permissions that `heliograph policy s3` prints",
)
_KEY_ID = Meaning(StoreRefused, "the store does not know this access key; correct access_key")
_SECRET = Meaning(StoreRefused, "the secret key does not belong to the access key; correct secret_key")
_TOKEN = Meaning(StoreRefused, "the session token has expired or is wrong; renew the credentials")
_CLOCK = Meaning(
    StoreUnavailable,
    "this machine's clock and the store's differ by more than the store allows; synchronise the clock (NTP)",
)
_REGION = Meaning(StoreRefused, "the bucket is in another region; set region= (and endpoint=) in the URL")
_SLOW = Meaning(StoreUnavailable, "the store asks for fewer requests; retried later")
_DOWN = Meaning(StoreUnavailable, "the store failed; retried later")
_CONFLICT = Meaning(StoreUnavailable, "another write of this key is under way; retried later")
_FULL = Meaning(StoreUnavailable, "the store is full or over its quota; free some space or raise the quota")
_MISSING = Meaning(ObjectMissing, "no such object")
_TAKEN = Meaning(KeyTaken, "an object has this key")
_UNKNOWN = Meaning(StoreRefused, "the store does not know this kind of request; not fit for an archive")
_KMS = Meaning(StoreRefused, "the encryption key cannot be used; correct kms_key or its policy")
_STORAGE = Meaning(StoreRefused, "the store has no such storage class; correct storage_class")
_ENCRYPTION = Meaning(StoreRefused, "the store does not support this encryption; correct sse")
_NAME = Meaning(StoreRefused, "the store does not accept this name of a bucket or key; correct the URL")
_ARCHIVED = Meaning(StoreRefused, "the object is in cold storage; restore it first")

CODES: dict[str, Meaning] = {
    "NoSuchBucket": _BUCKET,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AccountProblem": _DENIED,
    "UserDisable": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": _KEY_ID,
    "SignatureDoesNotMatch": _SECRET,
    "InvalidSecurity": _SECRET,
    "ExpiredToken": _TOKEN,
    "InvalidToken": _TOKEN,
    "SecurityTokenExpired": _TOKEN,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "TemporaryRedirect": _DOWN,
    "SlowDown": _SLOW,
    "SlowDownRead": _SLOW,
    "SlowDownWrite": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "Throttling": _SLOW,
    "ThrottlingException": _SLOW,
    "TooManyRequests": _SLOW,
    "QpsLimitExceeded": _SLOW,
    "429": _SLOW,
    "InternalError": _DOWN,
    "ServiceUnavailable": _DOWN,
    "RequestTimeout": _DOWN,
    "BadDigest": _DOWN,
    "IncompleteBody": _DOWN,
    "XAmzContentSHA256Mismatch": _DOWN,
    "ConditionalRequestConflict": _CONFLICT,
    "OperationAborted": _CONFLICT,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "NoSuchKey": _MISSING,
    "404": _MISSING,
    "PreconditionFailed": _TAKEN,
    "FileAlreadyExists": _TAKEN,
    "412": _TAKEN,
    "NoSuchUpload": Meaning(UploadGone, "the upload was completed or aborted already"),
    "NotImplemented": _UNKNOWN,
    "MethodNotAllowed": _UNKNOWN,
    "KMS.DisabledException": _KMS,
    "KMS.NotFoundException": _KMS,
    "KMS.KMSInvalidStateException": _KMS,
    "InvalidStorageClass": _STORAGE,
    "InvalidEncryptionAlgorithmError": _ENCRYPTION,
    "InvalidBucketName": _NAME,
    "KeyTooLongError": _NAME,
    "InvalidObjectName": _NAME,
    "XMinioInvalidObjectName": _NAME,
    "XMinioParentIsObject": _NAME,
    "InvalidObjectState": _ARCHIVED,
    "SecondLevelDomainForbidden": Meaning(
        StoreRefused, "the store demands virtual-hosted style; set style=virtual"
    ),
}
"""Answers of a store, by the code in the body or, if there is none (HEAD), by the status."""

_CREDENTIALS = Meaning(
    StoreRefused,
    "no credentials; set access_key and secret_key, or one of boto3's sources (environment, profile, role)",
)
_UNREACHED = Meaning(StoreUnavailable, "cannot be reached; check the endpoint, and that the store is up")
_LOST = Meaning(StoreUnavailable, "the connection broke off; retried later")
_LATE = Meaning(StoreUnavailable, "no answer in time; retried later")

FAILURES: dict[type[Exception], Meaning] = {
    boto.SSLError: Meaning(StoreRefused, "TLS failed; check the endpoint's certificate, or AWS_CA_BUNDLE"),
    boto.EndpointConnectionError: _UNREACHED,
    boto.ConnectTimeoutError: _UNREACHED,
    boto.ProxyConnectionError: Meaning(StoreUnavailable, "the proxy cannot be reached; check HTTPS_PROXY"),
    boto.ReadTimeoutError: _LATE,
    boto.ConnectionClosedError: _LOST,
    boto.ResponseStreamingError: _LOST,
    boto.IncompleteReadError: _LOST,
    boto.HTTPClientError: _LOST,
    boto.ChecksumError: _LOST,
    boto.FlexibleChecksumError: _LOST,
    boto.CredentialRetrievalError: Meaning(StoreUnavailable, "the credentials cannot be fetched now"),
    boto.MetadataRetrievalError: Meaning(StoreUnavailable, "the credentials cannot be fetched now"),
    boto.NoCredentialsError: _CREDENTIALS,
    boto.PartialCredentialsError: _CREDENTIALS,
    boto.NoAuthTokenError: _CREDENTIALS,
    boto.TokenRetrievalError: _CREDENTIALS,
    boto.SSOError: _CREDENTIALS,
    boto.LoginError: _CREDENTIALS,
    BotoCoreError: Meaning(StoreRefused, "the client refused the request"),
    HTTPError: _LOST,
    TimeoutError: _LATE,
    OSError: _LOST,
}
"""Failures without an answer, by class; the nearest base class of an exception decides."""


def translated(error: Exception, doing: str) -> StoreError:
    """Builds our exception for one of `Foreign`: one line that begins with `doing` and ends with the foreign code or class."""
    if isinstance(error, ClientError):
        return _answered(error, doing)
    meaning = next(FAILURES[each] for each in type(error).__mro__ if each in FAILURES)
    detail = f"{type(error).__name__}: {_line(error)}" if meaning is FAILURES[BotoCoreError] else _name(error)
    return meaning.raises(f"{doing}: {meaning.text} ({detail})")


def _answered(error: ClientError, doing: str) -> StoreError:
    response: Mapping[str, Any] = error.response
    answer: Mapping[str, object] = response.get("Error", {})
    status: int = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(answer.get("Code", "") or status)
    meaning, detail = CODES.get(code), code
    if meaning is None:
        down = status in {408, 425} or status >= 500
        meaning = _DOWN if down else Meaning(StoreRefused, "the store refused the request")
        detail = f"{status} {code}: {_line(answer.get('Message', ''))}"
    region = answer.get("Region")
    where = f", it is {region}" if meaning is _REGION and region else ""
    return meaning.raises(f"{doing}: {meaning.text}{where} ({detail})")


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300]


def _name(error: Exception) -> str:
    return type(error).__name__

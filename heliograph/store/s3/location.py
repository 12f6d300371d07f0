"""Location of a bucket and settings for writing to it, parsed from an `s3://` URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from heliograph.store.keys import key_problem
from schemas.errors import InputError
from schemas.secrets import Secret


class Flavor(StrEnum):
    """Dialect of the protocol. `oss` is OSS's S3 endpoint, which has a condition of its own and takes no chunked bodies."""

    S3 = "s3"
    OSS = "oss"


class Style(StrEnum):
    """Position of the bucket's name in a request: in the path, or before the host's name."""

    PATH = "path"
    VIRTUAL = "virtual"


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Settings of an `s3://` URL; empty text for those that it does not give.

    `sse`: `AES256` or `aws:kms`, the latter with `kms_key` or the bucket's own key. Without `access_key` and
    `secret_key`, boto3's chain finds the credentials: environment, profile, the machine's role.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    style: Style = Style.VIRTUAL
    flavor: Flavor = Flavor.S3
    sse: str = ""
    kms_key: str = ""
    storage_class: str = ""
    access_key: Secret | None = None
    secret_key: Secret | None = None

    @property
    def name(self) -> str:
        """Bucket and prefix, for messages."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def url(self) -> str:
        """The URL that opens the same store; it holds references to secrets, not the secrets."""
        given = {name: str(getattr(self, name) or "") for name in _PARAMETERS}
        query = urlencode({name: value for name, value in given.items() if value}, safe=":/")
        return f"s3://{self.bucket}/{quote(self.prefix)}?{query}"

    @property
    def base(self) -> str:
        """The common beginning of all our keys in the bucket."""
        return f"{self.prefix}/" if self.prefix else ""


def parse_location(url: str) -> Location:
    """Parses `s3://bucket/prefix?name=value&…`. Raises InputError, which lists every problem and shows no value that may
    be a secret."""
    parts = urlsplit(url)
    problems: list[str] = []
    given = _parameters(parts.query, problems)
    prefix = unquote(parts.path).strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        problems.append(
            "write s3://bucket/prefix; the bucket's name has 3 to 63 letters, digits, `.`, `-`, `_`, and no user,"
            " password or port"
        )
    if parts.fragment:
        problems.append("write %23 in place of `#`")
    if prefix and key_problem(prefix):
        problems.append(f"prefix: {key_problem(prefix)}")
    problems += [f"{name}: {_PARAMETERS[name][1]}" for name in given if not _PARAMETERS[name][0](given[name])]
    problems += _contradictions(given)
    if problems:
        where = parts.netloc if _BUCKET.fullmatch(parts.netloc) else "…"
        raise InputError(f"object store s3://{where}: {'; '.join(problems)}")
    return _location(parts.netloc, prefix, given)


def _location(bucket: str, prefix: str, given: Mapping[str, str]) -> Location:
    flavor = Flavor(given.get("flavor", Flavor.S3))
    usual = Style.PATH if given.get("endpoint") and flavor is Flavor.S3 else Style.VIRTUAL
    texts = ("endpoint", "region", "sse", "kms_key", "storage_class")
    return Location(
        bucket=bucket,
        prefix=prefix,
        **{name: given.get(name, "") for name in texts},
        style=Style(given.get("style", usual)),
        flavor=flavor,
        access_key=Secret(given["access_key"]) if "access_key" in given else None,
        secret_key=Secret(given["secret_key"]) if "secret_key" in given else None,
    )


def _parameters(query: str, problems: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            problems.append(f"{name[:40]!r} is unknown; known are {', '.join(_PARAMETERS)}")
        elif name in given:
            problems.append(f"{name}: is given twice; keep one")
        else:
            given[name] = value
    return given


def _contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if ("access_key" in given) != ("secret_key" in given):
        yield "access_key and secret_key: give both, or none to use the environment or the machine's role"
    if "kms_key" in given and given.get("sse") != "aws:kms":
        yield "kms_key: needs sse=aws:kms"
    if given.get("flavor") == Flavor.OSS:
        if given.get("style") == Style.PATH:
            yield "style: OSS supports virtual only"
        if not given.get("endpoint"):
            yield "endpoint: OSS needs it, as in endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com"


def _is_endpoint(value: str) -> bool:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        return False
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and not rest


def _is_reference(value: str) -> bool:
    return Secret(value).is_reference and bool(value.partition(":")[2])


_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_REFERENCE = "write env:NAME or file:PATH, so that no URL holds the secret itself"

_PARAMETERS: dict[str, tuple[Callable[[str], object], str]] = {
    "endpoint": (_is_endpoint, "write http://host:port or https://host, and nothing after it"),
    "region": (_WORD.fullmatch, "write a region's name, as in eu-central-1"),
    "style": (set(Style).__contains__, "write path or virtual"),
    "flavor": (set(Flavor).__contains__, "write s3 or oss"),
    "sse": ({"AES256", "aws:kms"}.__contains__, "write AES256 or aws:kms"),
    "kms_key": (str.isprintable, "write a key's id or ARN"),
    "storage_class": (_WORD.fullmatch, "write a storage class, as in STANDARD_IA"),
    "access_key": (_is_reference, _REFERENCE),
    "secret_key": (_is_reference, _REFERENCE),
}
"""Parameters of the URL: a check of the value, and what to write if it fails."""

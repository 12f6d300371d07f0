"""Where a bucket is and how to write to it, as an `s3://` URL says it."""

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
    """Whose protocol: `oss` is OSS's S3 endpoint, which has a condition of its own and takes no chunked bodies."""

    S3 = "s3"
    OSS = "oss"


class Style(StrEnum):
    """Where the bucket's name goes: into the path, or before the host's name."""

    PATH = "path"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True)
class Location:
    """Everything an `s3://` URL says; an empty text is what it does not say.

    `sse`: `AES256` or `aws:kms`, the latter with `kms_key` or the bucket's own key. Without `access_key` and
    `secret_key` boto3's chain finds the credentials: environment, profile, the machine's role.
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
        """The URL that opens the same; of secrets it has the references."""
        said = {name: str(getattr(self, name) or "") for name in _PARAMETERS}
        query = urlencode({name: value for name, value in said.items() if value}, safe=":/")
        return f"s3://{self.bucket}/{quote(self.prefix)}?{query}"

    @property
    def base(self) -> str:
        """What the bucket's keys of all our objects begin with."""
        return f"{self.prefix}/" if self.prefix else ""


def parse_location(url: str) -> Location:
    """Read `s3://bucket/prefix?name=value&…`. Raises InputError with every problem, and never shows a value that may
    be a secret."""
    parts = urlsplit(url)
    problems: list[str] = []
    said = _parameters(parts.query, problems)
    prefix = unquote(parts.path).strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        problems.append(
            "write s3://bucket/prefix, the bucket's name of 3 to 63 letters, digits, `.`, `-`, `_`, with no user,"
            " password or port in it"
        )
    if parts.fragment:
        problems.append("a `#` is written %23")
    if prefix and key_problem(prefix):
        problems.append(f"prefix: {key_problem(prefix)}")
    problems += [f"{name}: {_PARAMETERS[name][1]}" for name in said if not _PARAMETERS[name][0](said[name])]
    problems += _contradictions(said)
    if problems:
        where = parts.netloc if _BUCKET.fullmatch(parts.netloc) else "…"
        raise InputError(f"object store s3://{where}: {'; '.join(problems)}")
    return _location(parts.netloc, prefix, said)


def _location(bucket: str, prefix: str, said: Mapping[str, str]) -> Location:
    flavor = Flavor(said.get("flavor", Flavor.S3))
    usual = Style.PATH if said.get("endpoint") and flavor is Flavor.S3 else Style.VIRTUAL
    texts = ("endpoint", "region", "sse", "kms_key", "storage_class")
    return Location(
        bucket,
        prefix,
        **{name: said.get(name, "") for name in texts},
        style=Style(said.get("style", usual)),
        flavor=flavor,
        access_key=Secret(said["access_key"]) if "access_key" in said else None,
        secret_key=Secret(said["secret_key"]) if "secret_key" in said else None,
    )


def _parameters(query: str, problems: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            problems.append(f"{name[:40]!r} is no parameter; known are {', '.join(_PARAMETERS)}")
        elif name in said:
            problems.append(f"{name}: is there twice")
        else:
            said[name] = value
    return said


def _contradictions(said: Mapping[str, str]) -> Iterator[str]:
    if ("access_key" in said) != ("secret_key" in said):
        yield "access_key and secret_key: give both, or none and let the environment or the machine's role decide"
    if "kms_key" in said and said.get("sse") != "aws:kms":
        yield "kms_key: needs sse=aws:kms"
    if said.get("flavor") == Flavor.OSS:
        if said.get("style") == Style.PATH:
            yield "style: OSS takes virtual only"
        if not said.get("endpoint"):
            yield "endpoint: is needed for OSS, as in endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com"


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
_REFERENCE = "write env:NAME or file:PATH, so that the secret itself is nowhere in a URL"

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
"""Each parameter of the URL: what its value must satisfy, and what to write."""

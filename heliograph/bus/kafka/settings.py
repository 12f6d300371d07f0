"""Settings of `kafka://host:port,host:port?…`, parsed and checked, and the names of topics and groups on the broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl

import msgspec

from schemas.errors import InputError, InvalidConfiguration
from schemas.secrets import Secret
from schemas.topics import NAMESPACE

Client = Literal["confluent", "kafka-python"]
Security = Literal["plaintext", "tls"]
Sasl = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

LOG_TOPIC = "__log"
"""Short name of the topic whose first record is the log id."""

_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_KNOWN = ("namespace", "replication", "security", "sasl", "username", "password", "ca", "client")


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a connection to the brokers. `replication` None: the broker's default. `ca`: file of certificates to
    trust in place of the system's. `client` None: confluent-kafka where it is installed, else kafka-python."""

    servers: tuple[str, ...]
    namespace: str = NAMESPACE
    replication: int | None = None
    security: Security = "plaintext"
    sasl: Sasl | None = None
    username: str = ""
    password: Secret | None = None
    ca: str = ""
    client: Client | None = None

    @property
    def bootstrap(self) -> str:
        """The servers as `host:port,host:port`."""
        return ",".join(self.servers)

    @property
    def shown(self) -> str:
        """The URL without secrets: nothing follows the servers."""
        return f"kafka://{self.bootstrap}"

    @property
    def protocol(self) -> str:
        """Kafka's name for the combination of security and sasl."""
        layer = "SSL" if self.security == "tls" else "PLAINTEXT"
        return layer if self.sasl is None else f"SASL_{layer}"

    def full(self, name: str) -> str:
        """Adds the namespace to the name of a topic or group."""
        return f"{self.namespace}.{name}"

    def short(self, full: str) -> str | None:
        """Removes the namespace from a name on the broker; returns None for names of other namespaces."""
        prefix = f"{self.namespace}."
        return full[len(prefix) :] if full.startswith(prefix) else None


def parse(url: str, namespace: str = NAMESPACE) -> KafkaSettings:
    """Parses a URL. Raises InvalidConfiguration, which lists every problem and shows no secret.

    `namespace`: used if the URL names none. If it is not the default, the URL must not name another, so that nobody works
    in a namespace by mistake.
    """
    servers, _, query = url.removeprefix("kafka://").partition("?")
    names = tuple(servers.rstrip("/").split(","))
    problems = [
        f"bus.url kafka://…: server {'(with a user or password)' if '@' in name else repr(name)}: write host:port"
        for name in names
        if not _SERVER.fullmatch(name)
    ]
    given = dict(parse_qsl(query, keep_blank_values=True))
    problems.extend(
        f"bus.url kafka://…?{name}=: unknown; known are {', '.join(_KNOWN)}"
        for name in given
        if name not in _KNOWN
    )
    problems.extend(_problems(given))
    if given.get("namespace", namespace) != namespace != NAMESPACE:
        problems.append("bus.namespace: bus.url names another with namespace=; keep one of them")
    if problems:
        raise InvalidConfiguration(problems)
    replication = given.get("replication")
    return KafkaSettings(
        servers=names,
        namespace=given.get("namespace", namespace),
        replication=int(replication) if replication else None,
        security=cast("Security", given.get("security", "plaintext")),
        sasl=cast("Sasl | None", given.get("sasl", "").upper() or None),
        username=given.get("username", ""),
        password=Secret(given["password"]) if given.get("password") else None,
        ca=given.get("ca", ""),
        client=cast("Client | None", given.get("client") or None),
    )


def _problems(given: dict[str, str]) -> list[str]:
    found: list[tuple[str, str]] = []
    if not _NAMESPACE.fullmatch(given.get("namespace", NAMESPACE)):
        found.append(("namespace", "use 1 to 100 letters, digits, '.', '_' and '-'"))
    if not re.fullmatch(r"[1-9]\d?", given.get("replication", "1")):
        found.append(("replication", "use a number of brokers from 1 to 99"))
    for name, known in (("security", Security), ("client", Client)):
        if given.get(name) and given[name] not in get_args(known):
            found.append((name, f"use one of {', '.join(get_args(known))}"))
    if given.get("ca") and not Path(given["ca"]).is_file():
        found.append(("ca", f"{given['ca']} is not a file; name one with certificates in PEM"))
    if given.get("sasl"):
        if given["sasl"].upper() not in get_args(Sasl):
            found.append(("sasl", f"use one of {', '.join(get_args(Sasl))}"))
        found.extend(
            (name, "sasl needs it; password=env:NAME keeps the value out of the URL")
            for name in ("username", "password")
            if not given.get(name)
        )
    elif given.get("username") or given.get("password"):
        found.append(("sasl", f"username and password need it; use one of {', '.join(get_args(Sasl))}"))
    if given.get("password"):
        found.extend(_password_problems(Secret(given["password"])))
    return [f"bus.url kafka://…?{name}=: {text}" for name, text in found]


def _password_problems(password: Secret) -> list[tuple[str, str]]:
    try:
        password.reveal()
    except InputError as error:
        return [("password", str(error))]
    return []

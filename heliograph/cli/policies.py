"""`heliograph policy`: the least privileges on a store or on Kafka, ready to paste."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.output import say
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.diagnose.permissions import Document, Use


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(policy)


def policy(
    kind: Annotated[str, typer.Argument(help="s3, oss, sls, sqs or kafka.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WHAT...]",
            help="s3, oss: results, objects or archive, and bucket/prefix. sls: project/logstore. sqs: a queue. "
            "kafka: a role.",
        ),
    ] = None,
) -> None:
    """Print the least privileges that a store or Kafka must grant, as JSON."""
    import orjson

    printed = POLICIES.get(kind)
    if printed is None:
        raise InputError(f"policy {kind!r}: no such kind; expected {', '.join(sorted(POLICIES))}")
    say(orjson.dumps(printed(words or []), option=orjson.OPT_INDENT_2).decode())


def _s3(words: Sequence[str]) -> Document:
    from heliograph.diagnose.permissions import s3_policy

    return s3_policy(*_bucket("s3", words))


def _oss(words: Sequence[str]) -> Document:
    from heliograph.diagnose.permissions import oss_policy

    return oss_policy(*_bucket("oss", words))


def _sls(words: Sequence[str]) -> Document:
    from heliograph.diagnose.permissions import sls_policy

    if len(words) != 1:
        raise InputError("policy sls: expected PROJECT/LOGSTORE")
    return sls_policy(words[0])


def _sqs(words: Sequence[str]) -> Document:
    from heliograph.diagnose.permissions import sqs_policy

    if len(words) != 1:
        raise InputError("policy sqs: expected QUEUE, its name or ARN")
    return sqs_policy(words[0])


def _kafka(words: Sequence[str]) -> Document:
    from heliograph.app.config import load
    from heliograph.diagnose.kafka_plan import READS
    from heliograph.diagnose.permissions import kafka_acls
    from heliograph.operations.topics import plan_topics

    if len(words) > 1 or any(word not in READS for word in words):
        raise InputError(f"policy kafka: expected one role or none; known are {', '.join(READS)}")
    found = plan_topics(load(os.environ))
    if found is None:
        raise InputError(
            "bus.url: is not a Kafka URL, and no other bus has permissions; set HELIOGRAPH_BUS_URL"
        )
    return kafka_acls(acl for acl in found.acls if not words or acl.role in words)


POLICIES: Mapping[str, Callable[[Sequence[str]], Document]] = {
    "kafka": _kafka,
    "oss": _oss,
    "s3": _s3,
    "sls": _sls,
    "sqs": _sqs,
}


def _bucket(kind: str, words: Sequence[str]) -> tuple[Use, str, str]:
    from heliograph.diagnose.permissions import Use, bucket_and_prefix

    if len(words) != 2 or words[0] not in set(Use):
        raise InputError(f"policy {kind}: expected {', '.join(Use)}, and BUCKET/PREFIX")
    return (Use(words[0]), *bucket_and_prefix(words[1]))

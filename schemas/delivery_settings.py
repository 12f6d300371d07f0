"""Delivery settings: where the execution records of a region go. Records of the topic `settings`, one a change.

The key is `executions/` and the region; without a value the region's settings are removed. A change is in force from
the record of the topic `subscriptions` that names it (`in_force_record`): so one position there says which
subscriptions and which settings a delivery was made under.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.execution import Id
from schemas.policy import Policy, RetryPolicy
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Record
from schemas.subscription import Target
from schemas.topics import SETTINGS, SUBSCRIPTIONS

PREFIX_LIMIT = 254
"""Characters of the longest root directory in a bucket (Cloud Assistant, OssDeliveryConfig)."""
BUCKET_KIND = "results"
LOGS_KIND = "result-logs"
RETRY = RetryPolicy(tries=1000, cap=1200.0)
"""A week: what keeps a record out of its bucket is for somebody to mend, and records are to be complete."""

_KEY = "executions/"
_IN_FORCE = b"@settings"
"""Key of records of `subscriptions` that name a position in `settings`. No subscription is called so, and their value
is empty: whoever does not know them finds nothing to remove."""
_POSITION = "settings"
_is_position = re.compile(rb"[0-9]{1,18}").fullmatch


class BucketDelivery(Policy):
    """`url` of an object store, as for the archive; `prefix`: the root directory in it.

    `encryption`: `inherit` leaves it to the bucket, `kms` takes `kms_key` or the bucket's own key. `record_name`: of a
    record's object, with `{Repeats}` in it; `file_content`: whether `fileContent.txt` is what arrived on the instance
    or, `as-sent`, the text of `FileContent`.
    """

    url: str = Field(min_length=1)
    prefix: str = Field(default="", max_length=PREFIX_LIMIT)
    encryption: Literal["inherit", "AES256", "kms"] = "inherit"
    kms_key: str = ""
    record_name: str = "{Repeats}.json"
    file_content: Literal["decoded", "as-sent"] = "decoded"

    @field_validator("prefix")
    @classmethod
    def _prefix_is_relative(cls, prefix: str) -> str:
        if prefix.startswith(("/", "\\")):
            raise ValueError("must not begin with / or \\; write it as audit/records")
        return prefix.rstrip("/")

    @model_validator(mode="after")
    def _key_is_for_kms(self) -> BucketDelivery:
        if self.kms_key and self.encryption != "kms":
            raise ValueError("kms_key: needs the encryption kms")
        return self


class LogDelivery(Policy):
    """Names of the log store's project and logstore."""

    project: str
    logstore: str


class RecordTarget(Target):
    """A target that delivery settings make. Its id holds `@`, which no id of a subscription's target may."""

    id: str


class DeliverySettings(Policy):
    """Where the records of one region go: a bucket, a log store or both. Switched off they are kept, and nothing new
    is delivered by them."""

    region: Id
    on: bool = True
    bucket: BucketDelivery | None = None
    logs: LogDelivery | None = None

    @model_validator(mode="after")
    def _goes_somewhere(self) -> DeliverySettings:
        if self.bucket is None and self.logs is None:
            raise ValueError("name a bucket, a project and logstore, or both")
        return self

    @property
    def name(self) -> str:
        """What deliveries by these settings have in place of a subscription's name."""
        return f"executions@{self.region}"

    @cached_property
    def targets(self) -> tuple[RecordTarget, ...]:
        """One target for each store: so one that is denied holds up no other."""
        stores = (("bucket", BUCKET_KIND, self.bucket), ("logs", LOGS_KIND, self.logs))
        return tuple(
            RecordTarget.model_validate(
                {"id": f"{label}@{self.region}", "kind": kind, "retry": RETRY, **_written(stored)}
            )
            for label, kind, stored in stores
            if stored is not None
        )

    def encode(self) -> bytes:
        """As the JSON value of its record."""
        return self.model_dump_json(exclude_defaults=True).encode()


def settings_record(region: str, value: bytes) -> NewRecord:
    """The record that sets a region's settings, or, without a value, removes them."""
    return NewRecord(SETTINGS, value, f"{_KEY}{region}".encode(), ((FORMAT, FORMAT_VERSION),))


def region_of(record: Record) -> str | None:
    """The region whose settings a record of `settings` is about; None if it is about something else."""
    key = (record.key or b"").decode(errors="replace")
    return key.removeprefix(_KEY) if key.startswith(_KEY) else None


def in_force_record(position: int) -> NewRecord:
    """The record that puts the settings before `position` (next offset to read of `settings`) into force."""
    headers = ((FORMAT, FORMAT_VERSION), (_POSITION, b"%d" % position))
    return NewRecord(SUBSCRIPTIONS, b"", _IN_FORCE, headers)


def in_force(record: Record) -> int | None:
    """The position in `settings` that a record of `subscriptions` names; None if it names none."""
    position = record.header(_POSITION) if record.key == _IN_FORCE else None
    return int(position) if position is not None and _is_position(position) else None


def _written(stored: Policy) -> dict[str, Any]:
    return stored.model_dump(exclude_defaults=True)

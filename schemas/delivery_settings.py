"""Delivery settings: the stores that receive the execution records of a region.

Each change is a record of the topic `settings`. Its key is `executions/` and the region; a record without a value
removes the settings of the region. A change takes effect with the record of the topic `subscriptions` that names it
(`in_force_record`), so one position in `subscriptions` fixes both the subscriptions and the settings of a delivery.
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
"""Retries for a week: somebody has to repair the bucket, and the records in it must be complete."""

_KEY = "executions/"
_IN_FORCE = b"@settings"
"""Key of the records of `subscriptions` that name a position in `settings`. No subscription can have this name, and the
value is empty, so a reader that does not know the key finds nothing to remove."""
_POSITION = "settings"
_is_position = re.compile(rb"[0-9]{1,18}").fullmatch


class BucketDelivery(Policy):
    """A bucket that receives records. `url`: an object store, as for the archive; `prefix`: the root directory in it.

    `encryption`: `inherit` uses the bucket's setting, `kms` uses `kms_key` or else the bucket's own key. `record_name`:
    name of a record's object, with `{Repeats}` in it. `file_content`: `decoded` stores in `fileContent.txt` the bytes
    that the instance received, `as-sent` the text of `FileContent`.
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
            raise ValueError(
                "kms_key: only encryption kms uses a key; set encryption to kms, or leave kms_key out"
            )
        return self


class LogDelivery(Policy):
    """A log store that receives records, by the names of its project and logstore."""

    project: str
    logstore: str


class RecordTarget(Target):
    """A target that delivery settings make. Its id contains `@`, which ids in subscriptions may not."""

    id: str


class DeliverySettings(Policy):
    """The stores that receive the records of one region: a bucket, a log store or both. With `on = false` the settings
    are kept and no new deliveries are made."""

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
        """The name that deliveries by these settings carry in place of a subscription's name."""
        return f"executions@{self.region}"

    @cached_property
    def targets(self) -> tuple[RecordTarget, ...]:
        """One target for each store, so that a store that denies access delays no other."""
        stores = (("bucket", BUCKET_KIND, self.bucket), ("logs", LOGS_KIND, self.logs))
        return tuple(
            RecordTarget.model_validate(
                {"id": f"{label}@{self.region}", "kind": kind, "retry": RETRY, **_written(stored)}
            )
            for label, kind, stored in stores
            if stored is not None
        )

    def encode(self) -> bytes:
        """Returns the JSON value of the settings' record."""
        return self.model_dump_json(exclude_defaults=True).encode()


def settings_record(region: str, value: bytes) -> NewRecord:
    """Builds the record that sets a region's settings; an empty value removes them."""
    return NewRecord(SETTINGS, value, f"{_KEY}{region}".encode(), ((FORMAT, FORMAT_VERSION),))


def region_of(record: Record) -> str | None:
    """Returns the region whose settings a record of `settings` changes; None for any other record."""
    key = (record.key or b"").decode(errors="replace")
    return key.removeprefix(_KEY) if key.startswith(_KEY) else None


def in_force_record(position: int) -> NewRecord:
    """Builds the record of `subscriptions` that puts the settings before `position` into force. `position`: the next
    offset to read of `settings`."""
    headers = ((FORMAT, FORMAT_VERSION), (_POSITION, b"%d" % position))
    return NewRecord(SUBSCRIPTIONS, b"", _IN_FORCE, headers)


def in_force(record: Record) -> int | None:
    """Returns the position in `settings` that a record of `subscriptions` names; None if it names none."""
    position = record.header(_POSITION) if record.key == _IN_FORCE else None
    return int(position) if position is not None and _is_position(position) else None


def _written(stored: Policy) -> dict[str, Any]:
    return stored.model_dump(exclude_defaults=True)

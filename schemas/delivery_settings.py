"""Delivery settings: the stores that receive the execution records of a region.

Each change is a record of the topic `settings`. Its key is `executions/` and the region; a record without a value
removes the settings of the region. A change takes effect with the next record of `subscriptions` that names a position
in `settings` (`in_force_record`), so one position in `subscriptions` fixes both subscriptions and settings of a
delivery.
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
"""Limit of the root directory in a bucket, in characters (Cloud Assistant, OssDeliveryConfig)."""
BUCKET_KIND = "results"
LOGS_KIND = "result-logs"
RETRY = RetryPolicy(tries=1000, cap=1200.0)
"""Retries for a week, so that an operator can repair the bucket before any record is missing in it."""

_KEY = "executions/"
_IN_FORCE = b"@settings"
"""Key of the records of `subscriptions` that name a position in `settings`. A reader that does not know this key takes
the empty value as the removal of a subscription of this name, which cannot exist."""
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
    """A target built from delivery settings. Its id contains `@`, which ids of other targets cannot contain."""

    id: str


class DeliverySettings(Policy):
    """The stores that receive the records of one region: a bucket, a log store or both. With `on = false` the settings
    are kept and no new deliveries are created."""

    region: Id
    on: bool = True
    bucket: BucketDelivery | None = None
    logs: LogDelivery | None = None

    @model_validator(mode="after")
    def _has_a_store(self) -> DeliverySettings:
        if self.bucket is None and self.logs is None:
            raise ValueError("name a bucket, a project and logstore, or both")
        return self

    @property
    def name(self) -> str:
        """The name that deliveries by these settings carry in place of a subscription's name."""
        return f"executions@{self.region}"

    @cached_property
    def targets(self) -> tuple[RecordTarget, ...]:
        """One target for each store, so that a store that refuses records does not delay the other."""
        stores = (("bucket", BUCKET_KIND, self.bucket), ("logs", LOGS_KIND, self.logs))
        return tuple(
            RecordTarget.model_validate(
                {"id": f"{label}@{self.region}", "kind": kind, "retry": RETRY, **_written(stored)}
            )
            for label, kind, stored in stores
            if stored is not None
        )

    def encode(self) -> bytes:
        """Returns the settings as JSON, the value of their record."""
        return self.model_dump_json(exclude_defaults=True).encode()


def settings_record(region: str, value: bytes) -> NewRecord:
    """Builds the record that sets a region's settings; an empty value removes them."""
    return NewRecord(SETTINGS, value, f"{_KEY}{region}".encode(), ((FORMAT, FORMAT_VERSION),))


def region_of(record: Record) -> str | None:
    """Returns the region whose settings a record of `settings` changes; None for any other record."""
    key = (record.key or b"").decode(errors="replace")
    return key.removeprefix(_KEY) if key.startswith(_KEY) else None


def in_force_record(position: int) -> NewRecord:
    """Builds the record of `subscriptions` that puts all settings before `position`, an offset in `settings`, into
    force."""
    headers = ((FORMAT, FORMAT_VERSION), (_POSITION, b"%d" % position))
    return NewRecord(SUBSCRIPTIONS, b"", _IN_FORCE, headers)


def read_in_force(record: Record) -> int | None:
    """Returns the position in `settings` that a record of `subscriptions` puts into force; None for any other
    record."""
    position = record.header(_POSITION) if record.key == _IN_FORCE else None
    return int(position) if position is not None and _is_position(position) else None


def _written(stored: Policy) -> dict[str, Any]:
    return stored.model_dump(exclude_defaults=True)

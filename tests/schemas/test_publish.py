from __future__ import annotations

import json

from schemas.content import FAMILIES
from schemas.publish import FOLDER, published


def test_the_committed_schemas_are_what_the_models_say() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == published(), "run `make schemas`"


def test_there_is_a_schema_for_the_notification_the_subscription_the_records_and_every_family() -> None:
    assert len(published()) == 2 + 2 + len(FAMILIES)


def test_the_notification_has_ten_fields_and_may_lack_ver() -> None:
    schema = json.loads(published()["notification.schema.json"])
    assert len(schema["properties"]) == 10
    assert set(schema["properties"]) - set(schema["required"]) == {"ver"}
    assert schema["additionalProperties"] is True

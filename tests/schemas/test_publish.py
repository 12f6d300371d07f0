"""The generated JSON Schema files."""

from __future__ import annotations

import json

from schemas.content import FAMILIES
from schemas.publish import FOLDER, published


def test_the_committed_files_match_the_models() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == published(), "run `make schemas`"


def test_every_published_model_and_every_family_has_a_schema() -> None:
    assert len(published()) == 2 + 2 + len(FAMILIES)


def test_the_notification_schema_has_ten_fields_and_requires_all_but_ver() -> None:
    schema = json.loads(published()["notification.schema.json"])
    assert len(schema["properties"]) == 10
    assert set(schema["properties"]) - set(schema["required"]) == {"ver"}
    assert schema["additionalProperties"] is True

"""Generates the JSON Schema files under `schemas/json` from the models; `make schemas` runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

from schemas.content import FAMILIES
from schemas.execution import CommandRecord, FileRecord
from schemas.notification import Notification
from schemas.subscription import Subscription

Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
FOLDER = Path(__file__).parent / "json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published() -> Mapping[str, str]:
    """Returns the text of every schema file by its file name."""
    models: dict[str, type[BaseModel]] = {"notification": Notification, "subscription": Subscription}
    models |= {"execution.command": CommandRecord, "execution.file": FileRecord}
    models |= {f"content.{family}": model for family, model in FAMILIES.items()}
    return {f"{name}.schema.json": _text(model) for name, model in sorted(models.items())}


def _text(model: type[BaseModel]) -> str:
    document: dict[str, Json] = {"$schema": _DIALECT}
    for key, part in model.model_json_schema(by_alias=True).items():
        document[key] = part if key == "title" else _plain(part)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _plain(schema: Json) -> Json:
    """Removes generated titles, and `default: null` from fields that may be absent but not null."""
    match schema:
        case dict():
            return {key: _plain(part) for key, part in schema.items() if not _is_noise(key, part)}
        case list():
            return [_plain(part) for part in schema]
        case _:
            return schema


def _is_noise(key: str, part: object) -> bool:
    return (key == "title" and isinstance(part, str)) or (key == "default" and part is None)


def main() -> None:
    """Writes the files, and removes those of models that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    files = published()
    for stale in FOLDER.glob("*.schema.json"):
        if stale.name not in files:
            stale.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""docs/reference/execution-records.md agrees with the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic.alias_generators import to_pascal

from heliograph.cli.policies import POLICIES
from schemas.delivery_settings import PREFIX_LIMIT
from schemas.execution import (
    CommandRecord,
    ExecutionState,
    FileRecord,
    RecordState,
    check_execution,
    instance_state,
)
from schemas.execution_errors import ERRORS
from sinks.objects.executions import Layout
from tests.documents import blocks, codes, document, rows, section
from tests.heliograph.cli.conftest import Commands, call

__all__ = ["call"]

NAME = "docs/reference/execution-records.md"
RECORDS = document(NAME)


def test_the_example_is_a_record() -> None:
    (block,) = blocks("json", NAME)
    record = check_execution(block.text.encode())
    assert json.loads(record.encode()) == json.loads(block.text)


@pytest.mark.parametrize(
    ("heading", "model"), [("A record of a command", CommandRecord), ("A record of a file", FileRecord)]
)
def test_every_field_is_documented(heading: str, model: type[CommandRecord | FileRecord]) -> None:
    stated = {codes(row[0])[0]: row[1] for row in rows(section(RECORDS, heading))}
    assert list(stated) == [to_pascal(name) for name in model.model_fields]
    optional = {to_pascal(name) for name, field in model.model_fields.items() if not field.is_required()}
    assert {name for name, kind in stated.items() if "may be absent" in kind} == optional


def test_every_state_is_documented() -> None:
    text = section(RECORDS, "States")
    stated = {codes(record)[0]: codes(instance)[0] for record, instance, _ in rows(text)}
    assert stated == {state: instance_state(state) for state in RecordState}
    whole = rows(text.partition("as a whole")[2])
    assert [codes(row[0])[0] for row in whole] == list(ExecutionState)


def test_every_error_code_is_documented() -> None:
    stated = {codes(row[0])[0]: row[1:] for row in rows(section(RECORDS, "Error codes"))}
    assert list(stated) == list(ERRORS)
    for code, error in ERRORS.items():
        of = [word for word, is_so in (("commands", error.commands), ("files", error.files)) if is_so]
        assert stated[code] == [", ".join(of), error.meaning, error.remedy]


def test_the_layout_is_documented() -> None:
    stated = [name for row in rows(section(RECORDS, "The layout")) for name in codes(row[0])]
    layout = Layout("", "{Repeats}.json")
    (block,) = blocks("json", NAME)
    record = check_execution(block.text.encode())
    key = (
        layout.record(record)
        .replace(record.invoke_id, "<InvokeId>")
        .replace(record.instance_id, "<InstanceId>")
    )
    assert key.replace("1.json", "<Repeats>.json") in stated
    assert layout.content(record).replace(record.invoke_id, "<InvokeId>") in stated
    assert f"at most {PREFIX_LIMIT} characters" in section(RECORDS, "The layout")


def test_every_kind_of_policy_is_documented() -> None:
    stated = {codes(row[0])[0].split()[1] for row in rows(section(RECORDS, "Permissions"))}
    assert stated == set(POLICIES)


def test_the_commands_and_the_query_of_the_page_run(call: Commands, tmp_path: Path) -> None:
    (typed,) = blocks("console", NAME)
    for line in typed.text.replace("/srv", str(tmp_path)).splitlines():
        call.done(*line.removeprefix("$ heliograph ").split())
    (sql,) = blocks("sql", NAME)
    call.done("query", sql.text)

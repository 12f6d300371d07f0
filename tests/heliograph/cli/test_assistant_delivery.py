"""`heliograph assistant delivery …`: settings of regions, and the deliveries that follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heliograph.bus.open import open_bus
from schemas.record import NewRecord
from tests.executions import command, file
from tests.heliograph.cli.conftest import Commands

DELIVERY = ("assistant", "delivery")


def append(call: Commands, *values: bytes) -> None:
    bus = open_bus(f"sqlite://{call.home / 'bus.db'}", reserve=0)
    bus.append([NewRecord("executions", value, b"i-0") for value in values])
    bus.close()


def objects(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".unfinished" not in path.parts
    }


def test_records_reach_bucket_and_log_store_and_are_listed(call: Commands, tmp_path: Path) -> None:
    call.done("init")
    append(call, command(0, Output="disk full\n"), command(1, RegionId="cn-beijing"), b"{}")
    bucket = tmp_path / "bucket"
    words = ("--bucket", bucket.as_uri(), "--prefix", "audit", "--project", "ops", "--logstore", "runs")
    said = call.done(*DELIVERY, "set", "cn-hangzhou", *words, "--since", "1h").out
    assert said.splitlines() == [
        f"cn-hangzhou: delivery to {bucket.as_uri()} audit and log store ops/runs",
        "1 earlier records are on their way",
    ]
    append(call, file(2))
    call.done("run", "--until-idle")
    assert objects(bucket) == {
        "audit/invocationResults/t-0/commandContent.sh",
        "audit/invocationResults/t-0/i-0/1.json",
        "audit/sendFileResults/f-2/fileContent.txt",
        "audit/sendFileResults/f-2/i-2/1.json",
    }
    assert (bucket / "audit/invocationResults/t-0/i-0/1.json").read_bytes() == command(
        0, Output="disk full\n"
    )
    by_words = "SELECT InvokeId, ExitCode FROM execution_logs WHERE Output LIKE '%disk full%'"
    assert call.done("query", by_words, "--json").rows == [{"InvokeId": "t-0", "ExitCode": "0"}]
    by_sql = "SELECT InvokeId, ExitCode FROM executions WHERE RegionId = 'cn-hangzhou'"
    assert call.done("query", by_sql, "--json").rows == [{"InvokeId": "t-0", "ExitCode": 0}]
    assert call.done("query", "SELECT InvokeId, Overwrite FROM files", "--json").rows == [
        {"InvokeId": "f-2", "Overwrite": True}
    ]
    (target,) = call.done("targets", "show", "bucket@cn-hangzhou", "--json").rows
    assert target["subscriptions"] == ["executions@cn-hangzhou"]
    shown = call.done(*DELIVERY, "show", "--json")
    assert {row["region"]: (row["delivery"], row["records"]) for row in shown.rows} == {
        "cn-beijing": ("none", 1),
        "cn-hangzhou": ("on", 2),
    }
    assert "cn-beijing: no delivery settings; its records stay" in shown.err


def test_control_characters_of_a_region_are_escaped(call: Commands) -> None:
    call.done("init")
    append(call, b'{"RegionId": "\\u001b[2J\\n"}')
    shown = call.done(*DELIVERY, "show")
    assert "\x1b" not in shown.out + shown.err
    assert "\\x1b[2J\\n: no delivery settings" in shown.err


def test_a_denied_bucket_delays_no_other_region(call: Commands, tmp_path: Path) -> None:
    call.done("init")
    (tmp_path / "denied").write_text("not a folder")
    for region, name in (("cn-beijing", "denied"), ("cn-hangzhou", "bucket")):
        call.done(*DELIVERY, "set", region, "--bucket", (tmp_path / name).as_uri())
    append(
        call, *(command(number, RegionId=("cn-beijing", "cn-hangzhou")[number % 2]) for number in range(8))
    )
    call.done("run", "--until-idle")
    states: dict[str, set[str]] = {}
    for row in call.done("deliveries", "list", "--json").rows:
        states.setdefault(row["target"], set()).add(row["state"])
    assert states["bucket@cn-hangzhou"] == {"delivered"}
    assert states["bucket@cn-beijing"] <= {"waiting", "under-way"}
    assert len(objects(tmp_path / "bucket")) == 8
    failed = {
        row["check"]: row["detail"] for row in call("doctor", "--json").rows if row["state"] == "failed"
    }
    assert list(failed) == ["target bucket@cn-beijing"]


def test_omitted_options_stay_and_each_store_can_be_removed(call: Commands) -> None:
    call.done(*DELIVERY, "set", "cn-hangzhou", "--bucket", "memory://", "--layout", "file=as-sent")
    call.done(*DELIVERY, "set", "cn-hangzhou", "--project", "ops", "--logstore", "runs")
    assert "unchanged" in call.done(*DELIVERY, "set", "cn-hangzhou", "--bucket", "memory://").out
    (row,) = call.done(*DELIVERY, "show", "cn-hangzhou", "--json").rows
    assert (row["bucket"], row["file_content"], row["logstore"]) == ("memory://", "as-sent", "runs")
    call.done(*DELIVERY, "set", "cn-hangzhou", "--logstore", "none")
    (row,) = call.done(*DELIVERY, "show", "cn-hangzhou", "--json").rows
    assert (row["bucket"], row["logstore"]) == ("memory://", "")
    assert "name a bucket" in call.refused(*DELIVERY, "set", "cn-hangzhou", "--bucket", "none")


def test_settings_are_removed_only_once_switched_off(call: Commands) -> None:
    for region in ("cn-beijing", "cn-hangzhou"):
        call.done(*DELIVERY, "set", region, "--bucket", "memory://")
    refused = call.refused(*DELIVERY, "remove", "cn-beijing", "cn-hangzhou")
    assert "is on in cn-beijing, cn-hangzhou; switch it off there first" in refused
    for region in ("cn-beijing", "cn-hangzhou"):
        call.done(*DELIVERY, "off", region)
    assert {row["delivery"] for row in call.done(*DELIVERY, "show", "--json").rows} == {"off"}
    call.done(*DELIVERY, "on", "cn-beijing")
    assert "is on in cn-beijing;" in call.refused(*DELIVERY, "remove", "cn-beijing", "cn-hangzhou")
    call.done(*DELIVERY, "off", "cn-beijing")
    call.done(*DELIVERY, "remove", "cn-beijing", "cn-hangzhou")
    assert call.done(*DELIVERY, "show", "--json").rows == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("set cn-hangzhou", "name a bucket, a project and logstore, or both"),
        ("set cn/hangzhou --bucket memory://", "region: "),
        ("set cn-hangzhou --project ops", "logs.logstore: is missing"),
        (
            "set cn-hangzhou --project OPS --logstore runs",
            "project: 'OPS' is not a valid name; use 2 to 63 lower-case",
        ),
        ("set cn-hangzhou --bucket ftp://x", "unknown kind; known are file://, memory://, s3://"),
        ("set cn-hangzhou --bucket memory:// --prefix /x", "must not begin with / or \\; write it as"),
        ("set cn-hangzhou --bucket memory:// --encryption SM4", "'SM4' is not one of inherit, AES256, kms"),
        ("set cn-hangzhou --bucket memory:// --encryption kms", "only buckets (s3://) encrypt"),
        ("set cn-hangzhou --bucket memory:// --layout name=x", "--layout 'name=x': expected record="),
        ("set cn-hangzhou --bucket memory:// --layout record=x", "must hold {Repeats} once"),
        ("set cn-hangzhou --bucket none --prefix x", "--bucket none: leave out --prefix"),
        ("set cn-hangzhou --logstore none --project ops", "--logstore none: leave out --project"),
        ("set cn-hangzhou --bucket memory:// --since never", "time 'never': expected 2h"),
        (
            "show cn-hangzhou",
            "region 'cn-hangzhou': has no delivery settings; its 0 records stay in the topic",
        ),
        ("on cn-hangzhou", "region 'cn-hangzhou': has no delivery settings; regions that have some: none"),
        (
            "remove cn-hangzhou",
            "region 'cn-hangzhou': has no delivery settings; regions that have some: none",
        ),
    ],
)
def test_invalid_arguments_are_refused(call: Commands, words: str, says: str) -> None:
    assert says in call.refused(*DELIVERY, *words.split())
    assert call.done(*DELIVERY, "show", "--json").rows == []


def test_missing_credentials_are_reported_with_their_region(call: Commands) -> None:
    url = "s3://audit?access_key=env:NO_SUCH_KEY&secret_key=env:NO_SUCH_KEY"
    call.done(*DELIVERY, "set", "cn-hangzhou", "--bucket", url)
    failed = {
        row["check"]: row["detail"] for row in call("doctor", "--json").rows if row["state"] == "failed"
    }
    assert list(failed) == ["target bucket@cn-hangzhou"]
    assert "NO_SUCH_KEY" in failed["target bucket@cn-hangzhou"]
    assert json.dumps(call.done(*DELIVERY, "show", "--json").rows).count("NO_SUCH_KEY") == 0

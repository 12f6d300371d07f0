"""Requests: encoding and limits."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from producers.assistant.requests import (
    COMMAND_LIMIT,
    FILE_LIMIT,
    Command,
    DeleteCommand,
    File,
    KeepCommand,
    ModifyCommand,
    Request,
    Run,
    SendFile,
    Stop,
    base64_size,
    check,
    decode,
    encode,
)
from schemas.errors import InputError
from schemas.execution import CommandType, ContentType, RepeatMode
from tests.producers.assistant.fleet import NOW, command

HEAD: dict[str, Any] = {"id": "r-1", "time": NOW, "region": "cn-hangzhou", "caller": 7}


def run(content: str = "echo", **fields: Any) -> Run:
    values: dict[str, Any] = {
        "invoke_id": "t-1",
        "instances": ("i-1",),
        "command": command(content),
        **fields,
    }
    return Run(**HEAD, **values)


def send(**fields: Any) -> SendFile:
    values: dict[str, Any] = {"name": "a", "content": "b", **fields}
    return SendFile(**HEAD, invoke_id="f-1", instances=("i-1",), file=File(**values))


@pytest.mark.parametrize(
    "request_",
    [
        run("echo {{a}}", parameters={"a": "b"}, mode=RepeatMode.EVERY_REBOOT, username="root"),
        run(mode=RepeatMode.PERIOD, frequency="rate(5m)"),
        send(content="AA==", content_type=ContentType.BASE64),
        Stop(**HEAD, invoke_id="t-1"),
        KeepCommand(**HEAD, command=command()),
        ModifyCommand(**HEAD, command_id="c-1", name="new"),
        DeleteCommand(**HEAD, command_id="c-1"),
    ],
)
def test_reading_an_encoded_request_returns_it(request_: Request) -> None:
    assert decode(encode(request_)) == request_


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_script_has_at_most_sixteen_kibibytes_in_base64(over: int) -> None:
    content = "x" * (COMMAND_LIMIT // 4 * 3 + over)
    assert (base64_size(content) <= COMMAND_LIMIT) == (over <= 0)
    if over <= 0:
        check(run(content))
    else:
        with pytest.raises(InputError, match=r"16388 bytes in Base64 .* at most 16384"):
            check(run(content))


@pytest.mark.parametrize("over", [0, 1])
def test_the_size_limit_of_a_script_includes_its_parameters(over: int) -> None:
    parameters = {"a": "1"}
    own = base64_size(json.dumps(parameters, separators=(",", ":")))
    content = "{{a}}".ljust((COMMAND_LIMIT - own) // 4 * 3 + over, "x")
    if over:
        with pytest.raises(InputError, match="with its parameters"):
            check(run(content, parameters=parameters))
    else:
        check(run(content, parameters=parameters))


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("kind", ContentType)
def test_a_file_has_at_most_thirty_two_kibibytes_in_base64(over: int, kind: ContentType) -> None:
    data = "x" * (FILE_LIMIT // 4 * 3 + over)
    content = b64encode(data.encode()).decode() if kind is ContentType.BASE64 else data
    if over <= 0:
        check(send(content=content, content_type=kind))
    else:
        with pytest.raises(InputError, match="32772 bytes in Base64; at most 32768"):
            check(send(content=content, content_type=kind))


@pytest.mark.parametrize("count", [1, 50])
def test_a_request_has_at_most_fifty_instances(count: int) -> None:
    check(run(instances=tuple(f"i-{number}" for number in range(count))))


DAILY = "0 0 0 * * ?"
NO_REGION = msgspec.structs.replace(KeepCommand(**HEAD, command=command()), region="")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (run(instances=()), "instances: 0 are named"),
        (run(instances=tuple(f"i-{number}" for number in range(51))), "instances: 51 are named"),
        (run(instances=("i-1", "i-1")), "named twice"),
        (run(instances=("../x",)), "instance '../x'"),
        (run(invoke_id="t/1"), "invoke_id"),
        (run("   "), "command: is empty"),
        (run("{{a}}"), "'a': the command uses it"),
        (run(command=command(timeout=9)), "time-out 9: expected 10 to 86400"),
        (run(command=command(timeout=86_401)), "time-out 86401"),
        (run(frequency="rate(5m)"), "frequency: only Period has one"),
        (run(mode=RepeatMode.PERIOD, frequency="rate(5s)"), "60 seconds"),
        (run(mode=RepeatMode.PERIOD), "fields"),
        (run(username="a\0"), "username: contains a NUL"),
        (run(username="u" * 256), "username: has 256 characters; at most 255"),
        (run(mode=RepeatMode.PERIOD, frequency="0" * 513), "frequency: has 513 characters"),
        (msgspec.structs.replace(run(mode=RepeatMode.PERIOD, frequency=DAILY), time=2**62), "time 4611"),
        (msgspec.structs.replace(run(mode=RepeatMode.PERIOD, frequency=DAILY), time=-1), "time -1: expected"),
        (msgspec.structs.replace(run(), caller=-1), "caller -1: expected an account id"),
        (msgspec.structs.replace(run(), caller=2**63), "expected an account id"),
        (run(command=command(name="n" * 129)), "command name: has 129 characters; at most 128"),
        (send(name="a/b"), "file name 'a/b'"),
        (send(name=".."), "file name"),
        (send(name="é" * 128), "1 to 255 bytes"),
        (run(command=msgspec.structs.replace(command(), working_dir="srv")), "working directory 'srv'"),
        (send(target_dir="etc"), "absolute path"),
        (send(owner="o" * 65), "owner: has 65 characters; at most 64"),
        (send(target_dir="/" * 256), "target directory: has 256 characters"),
        (send(mode="0999"), "octal digits"),
        (send(content="x", content_type=ContentType.BASE64), "not Base64"),
        (send(description="d" * 513), "at most 512"),
        (ModifyCommand(**HEAD, command_id="c-1", timeout=5), "time-out 5"),
        (ModifyCommand(**HEAD, command_id="c-1", timeout=0), "time-out 0"),
        (ModifyCommand(**HEAD, command_id="c-1", name="n" * 129), "command name: has 129 characters"),
        (NO_REGION, "region ''"),
    ],
)
def test_a_request_beyond_a_limit_is_refused_with_the_field(wrong: Request, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check(wrong)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "not a request"),
        (b"[]", "not a request"),
        (b'{"kind": "burn"}', "'burn'"),
        (b"\xff", "not a request"),
        (b'{"kind": "stop"}', "missing required field"),
        (msgspec.json.encode({**HEAD, "kind": "stop", "invoke_id": "t-1", "more": 1}), "more"),
    ],
)
def test_bytes_that_are_not_a_request_are_refused(value: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decode(value)


def test_the_default_time_limit_of_a_command_is_sixty_seconds() -> None:
    assert Command(command_id="c-1", name="n", type=CommandType.SHELL, content="x").timeout == 60

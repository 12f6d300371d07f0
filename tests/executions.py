"""Execution records for tests: the examples of the manual, and variations of them."""

from __future__ import annotations

import json
from typing import Any

COMMAND: dict[str, Any] = {
    "RegionId": "cn-hangzhou",
    "InstanceId": "i-bp1hd5ztmab9cgc0****",
    "InvokeId": "t-hz01x7rtjfy****",
    "CommandId": "c-hz01x7cn5aj****",
    "CommandName": "cmd-hostname",
    "CommandType": "RunShellScript",
    "CommandContent": "hostname",
    "ResourceOwnerUid": 1609982529920000,
    "CallerUid": 1609982529920000,
    "CallerType": "customer",
    "Timeout": 60,
    "Frequency": "",
    "Parameters": "{}",
    "Username": "",
    "RepeatMode": "Once",
    "Repeats": 1,
    "InvocationStatus": "Success",
    "Dropped": 0,
    "Output": "iZbp1hd5ztmab9cgc0****\n",
    "ExitCode": 0,
    "CreationTime": "2021-09-26T05:47:20Z",
    "StartTime": "2021-09-26T05:47:20Z",
    "UpdateTime": "2021-09-26T05:47:20Z",
    "FinishedTime": "2021-09-26T05:47:20Z",
    "StopTime": "",
}
"""The manual's example of a stored object, with digits in place of its masked account ids."""

FILE: dict[str, Any] = {
    "RegionId": "cn-hangzhou",
    "InstanceId": "i-bp1hd5ztmab9cgc0****",
    "InvokeId": "f-hz01xeva44***",
    "FileName": "sendfile-test.txt",
    "ContentType": "Base64",
    "Description": "Used for test",
    "FileContent": "c2VuZCBmaWxlIHRlc3Q=",
    "FileGroup": "root",
    "FileMode": "0644",
    "FileOwner": "root",
    "ResourceOwnerUid": 160998252990000,
    "CallerUid": 160998252990000,
    "CallerType": "customer",
    "Overwrite": True,
    "TargetDir": "/root",
    "Timeout": 60,
    "InvocationStatus": "Failed",
    "ErrorCode": "FileAlreadyExists",
    "ErrorInfo": "File already exists: sendfile-test.txt",
    "CreationTime": "2021-09-28T05:31:04Z",
    "StartTime": "2021-09-28T05:31:04Z",
    "UpdateTime": "2021-09-28T05:31:04Z",
    "FinishTime": "2021-09-28T05:31:04Z",
}
"""The example values in the manual's table of a file-sending task."""

FAILED = {
    "InvocationStatus": "Failed",
    "ErrorCode": "ExitCodeNonzero",
    "ErrorInfo": "the command execution exit code is not zero",
    "ExitCode": 3,
}


def encoded(record: dict[str, Any], **changes: object) -> bytes:
    changed = {**record, **changes}
    return json.dumps({name: value for name, value in changed.items() if value is not None}).encode()


def command(number: int = 0, /, **changes: object) -> bytes:
    """Returns the example of a command with the ids of execution and instance `number`."""
    own = {"InvokeId": f"t-{number}", "InstanceId": f"i-{number}"}
    return encoded(COMMAND, **{**own, **changes})


def file(number: int = 0, /, **changes: object) -> bytes:
    """Returns the example of a file, sent with success, with the ids of execution and instance `number`."""
    own = {"InvokeId": f"f-{number}", "InstanceId": f"i-{number}", "InvocationStatus": "Success"}
    return encoded(FILE, **{**own, "ErrorCode": None, "ErrorInfo": None, **changes})

"""Why a command was not run, or a file not sent: the codes, what each means, and what to do.

The codes and their texts are those of Cloud Assistant: DescribeInvocationResults and DescribeSendFileResults (ECS API
2014-05-26), and the table of command errors in the ECS user manual. Texts that neither gives are in their manner.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class ErrorCode(StrEnum):
    """`ErrorCode` of a record."""

    INSTANCE_NOT_EXISTS = "InstanceNotExists"
    INSTANCE_RELEASED = "InstanceReleased"
    INSTANCE_NOT_RUNNING = "InstanceNotRunning"
    INSTANCE_RESTARTED = "InstanceRestarted"
    COMMAND_NOT_APPLICABLE = "CommandNotApplicable"
    ACCOUNT_NOT_EXISTS = "AccountNotExists"
    DIRECTORY_NOT_EXISTS = "DirectoryNotExists"
    BAD_CRON_EXPRESSION = "BadCronExpression"
    CLIENT_NOT_RUNNING = "ClientNotRunning"
    CLIENT_NOT_RESPONSE = "ClientNotResponse"
    CLIENT_NOT_ONLINE = "ClientNotOnline"
    CLIENT_NETWORK_BLOCKED = "ClientNetworkBlocked"
    CLIENT_IS_UPGRADING = "ClientIsUpgrading"
    CLIENT_NEED_UPGRADE = "ClientNeedUpgrade"
    DELIVERY_TIMEOUT = "DeliveryTimeout"
    EXECUTION_TIMEOUT = "ExecutionTimeout"
    EXECUTION_EXCEPTION = "ExecutionException"
    EXECUTION_INTERRUPTED = "ExecutionInterrupted"
    EXIT_CODE_NONZERO = "ExitCodeNonzero"
    FILE_CREATE_FAIL = "FileCreateFail"
    FILE_ALREADY_EXISTS = "FileAlreadyExists"
    FILE_CONTENT_INVALID = "FileContentInvalid"
    FILE_NAME_INVALID = "FileNameInvalid"
    FILE_PATH_INVALID = "FilePathInvalid"
    FILE_AUTHORITY_INVALID = "FileAuthorityInvalid"


class ExecutionError(NamedTuple):
    """`info`: the usual `ErrorInfo`; `meaning` and `remedy`: one line each, for a person. `commands`, `files`: the
    records that it occurs in."""

    info: str
    meaning: str
    remedy: str
    commands: bool = True
    files: bool = False


ERRORS: Mapping[ErrorCode, ExecutionError] = MappingProxyType(
    {
        ErrorCode.INSTANCE_NOT_EXISTS: ExecutionError(
            "the specified instance does not exists",
            "No instance has this id.",
            "Correct the id, or start an agent for it.",
            files=True,
        ),
        ErrorCode.INSTANCE_RELEASED: ExecutionError(
            "the instance has released when create task",
            "The instance was released before the task was made.",
            "Leave it out.",
            files=True,
        ),
        ErrorCode.INSTANCE_NOT_RUNNING: ExecutionError(
            "the instance is not running when create task",
            "The instance was not running when the task was made.",
            "Start it, and try again.",
            files=True,
        ),
        ErrorCode.INSTANCE_RESTARTED: ExecutionError(
            "the instance has been restarted during the execution",
            "The instance was restarted while the task was under way.",
            "Try again, and do not restart it meanwhile.",
        ),
        ErrorCode.COMMAND_NOT_APPLICABLE: ExecutionError(
            "the command is not applicable",
            "The instance cannot run commands of this type.",
            "Choose a type that its operating system has an interpreter for.",
        ),
        ErrorCode.ACCOUNT_NOT_EXISTS: ExecutionError(
            "the specified account does not exists",
            "The instance has no user of this name, or may not act as that user.",
            "Correct the user's name, or make the user on the instance.",
            files=True,
        ),
        ErrorCode.DIRECTORY_NOT_EXISTS: ExecutionError(
            "the specified directory does not exists",
            "The instance has no such working directory.",
            "Correct the path, or make the directory.",
        ),
        ErrorCode.BAD_CRON_EXPRESSION: ExecutionError(
            "the cron job expression is invalid",
            "The schedule cannot be read, or never comes.",
            "Correct the expression.",
        ),
        ErrorCode.CLIENT_NOT_RUNNING: ExecutionError(
            "the aliyun service is not running on the instance",
            "The agent of the instance does not run.",
            "Start the agent.",
            files=True,
        ),
        ErrorCode.CLIENT_NOT_RESPONSE: ExecutionError(
            "the aliyun service in the instance does not response",
            "The agent of the instance did not answer.",
            "Look into the agent's log; start it anew.",
            files=True,
        ),
        ErrorCode.CLIENT_NOT_ONLINE: ExecutionError(
            "the aliyun service in the instance is not online",
            "The agent of the instance is not connected.",
            "Start the agent anew; check that it reaches the log.",
        ),
        ErrorCode.CLIENT_NETWORK_BLOCKED: ExecutionError(
            "the network of the instance is blocked",
            "The agent of the instance cannot get through.",
            "Check name resolution, routes and firewall of the instance.",
        ),
        ErrorCode.CLIENT_IS_UPGRADING: ExecutionError(
            "the aliyun service in the instance is upgrading now",
            "The agent of the instance is being upgraded.",
            "Try again in some minutes.",
            files=True,
        ),
        ErrorCode.CLIENT_NEED_UPGRADE: ExecutionError(
            "the aliyun service in the instance need upgrade",
            "The agent of the instance is too old for this task.",
            "Upgrade the agent.",
            files=True,
        ),
        ErrorCode.DELIVERY_TIMEOUT: ExecutionError(
            "the command delivery has been timeout",
            "The task did not reach the agent in time.",
            "Try again; check that the agent runs.",
            files=True,
        ),
        ErrorCode.EXECUTION_TIMEOUT: ExecutionError(
            "the command execution has been timeout",
            "The command ran longer than its time-out, and was ended.",
            "Raise the time-out, or make the command quicker.",
        ),
        ErrorCode.EXECUTION_EXCEPTION: ExecutionError(
            "the command execution got an exception",
            "The command could not be run.",
            "Read ErrorInfo, which says why.",
        ),
        ErrorCode.EXECUTION_INTERRUPTED: ExecutionError(
            "the command execution has been interrupted",
            "The agent ended while the command ran; how far it came is not known.",
            "Look at the instance before running it again.",
        ),
        ErrorCode.EXIT_CODE_NONZERO: ExecutionError(
            "the command execution exit code is not zero",
            "The command ran to its end, and its exit code is not 0.",
            "Read Output, and correct the command.",
        ),
        ErrorCode.FILE_CREATE_FAIL: ExecutionError(
            "the file can not be created",
            "The file could not be written.",
            "Check the space and the permissions of the directory.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_ALREADY_EXISTS: ExecutionError(
            "File already exists",
            "The directory has a file of this name.",
            "Choose another name, or let it be overwritten.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_CONTENT_INVALID: ExecutionError(
            "the file content is invalid",
            "The content is not what ContentType says.",
            "Send it as PlainText, or in Base64.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_NAME_INVALID: ExecutionError(
            "the file name is invalid",
            "The instance takes no such file name.",
            "Choose a name without `/`.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_PATH_INVALID: ExecutionError(
            "the file path is invalid",
            "The target directory is not one, or is not absolute.",
            "Correct the path.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_AUTHORITY_INVALID: ExecutionError(
            "the file authority is invalid",
            "The owner, the group or the mode cannot be given to the file.",
            "Correct them, or run the agent as a user who may.",
            commands=False,
            files=True,
        ),
    }
)

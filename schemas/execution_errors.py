"""Error codes of execution records: the reasons why a command did not run or a file was not sent, with the remedies.

The codes and their texts are those of Cloud Assistant: DescribeInvocationResults and DescribeSendFileResults (ECS API
2014-05-26), and the table of command errors in the ECS user manual. Texts that neither gives follow their style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from types import MappingProxyType


class ErrorCode(StrEnum):
    """`ErrorCode` of an execution record."""

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


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """An error code's explanation. `info`: the usual `ErrorInfo`; `meaning` and `remedy`: one line each, for a person.
    `commands`, `files`: True if records of commands or of files may have the code."""

    info: str
    meaning: str
    remedy: str
    _: KW_ONLY
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
            "The instance was released before the task was created.",
            "Remove the instance from the request.",
            files=True,
        ),
        ErrorCode.INSTANCE_NOT_RUNNING: ExecutionError(
            "the instance is not running when create task",
            "The instance was not running when the task was created.",
            "Start the instance and try again.",
            files=True,
        ),
        ErrorCode.INSTANCE_RESTARTED: ExecutionError(
            "the instance has been restarted during the execution",
            "The instance was restarted while the task ran.",
            "Try again without restarting the instance.",
        ),
        ErrorCode.COMMAND_NOT_APPLICABLE: ExecutionError(
            "the command is not applicable",
            "The instance cannot run commands of this type.",
            "Choose a command type for which the instance has an interpreter.",
        ),
        ErrorCode.ACCOUNT_NOT_EXISTS: ExecutionError(
            "the specified account does not exists",
            "The instance has no user of this name, or the agent may not act as that user.",
            "Correct the user name, or create the user on the instance.",
            files=True,
        ),
        ErrorCode.DIRECTORY_NOT_EXISTS: ExecutionError(
            "the specified directory does not exists",
            "The instance has no such working directory.",
            "Correct the path, or create the directory.",
        ),
        ErrorCode.BAD_CRON_EXPRESSION: ExecutionError(
            "the cron job expression is invalid",
            "The schedule is invalid, or names no time in the future.",
            "Correct the expression.",
        ),
        ErrorCode.CLIENT_NOT_RUNNING: ExecutionError(
            "the aliyun service is not running on the instance",
            "The agent of the instance is not running.",
            "Start the agent.",
            files=True,
        ),
        ErrorCode.CLIENT_NOT_RESPONSE: ExecutionError(
            "the aliyun service in the instance does not response",
            "The agent of the instance did not answer.",
            "Read the agent's log lines, and restart the agent.",
            files=True,
        ),
        ErrorCode.CLIENT_NOT_ONLINE: ExecutionError(
            "the aliyun service in the instance is not online",
            "The agent of the instance is not connected.",
            "Restart the agent, and check that it reaches the bus.",
        ),
        ErrorCode.CLIENT_NETWORK_BLOCKED: ExecutionError(
            "the network of the instance is blocked",
            "The network of the instance blocks the agent.",
            "Check name resolution, routes and firewall of the instance.",
        ),
        ErrorCode.CLIENT_IS_UPGRADING: ExecutionError(
            "the aliyun service in the instance is upgrading now",
            "The agent of the instance is being upgraded.",
            "Try again in a few minutes.",
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
            "Check that the agent is running, and try again.",
            files=True,
        ),
        ErrorCode.EXECUTION_TIMEOUT: ExecutionError(
            "the command execution has been timeout",
            "The command exceeded its time limit and was ended.",
            "Raise the time limit, or shorten the command.",
        ),
        ErrorCode.EXECUTION_EXCEPTION: ExecutionError(
            "the command execution got an exception",
            "The command could not be run.",
            "Correct the cause that ErrorInfo names.",
        ),
        ErrorCode.EXECUTION_INTERRUPTED: ExecutionError(
            "the command execution has been interrupted",
            "The agent ended while the command ran; an unknown part of the command was executed.",
            "Check the state of the instance before running the command again.",
        ),
        ErrorCode.EXIT_CODE_NONZERO: ExecutionError(
            "the command execution exit code is not zero",
            "The command ended with an exit code other than 0.",
            "Read Output, and correct the command.",
        ),
        ErrorCode.FILE_CREATE_FAIL: ExecutionError(
            "the file can not be created",
            "The file could not be written.",
            "Check the free space and the permissions of the directory.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_ALREADY_EXISTS: ExecutionError(
            "File already exists",
            "The directory already has a file of this name.",
            "Choose another name, or allow overwriting.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_CONTENT_INVALID: ExecutionError(
            "the file content is invalid",
            "The content does not match ContentType.",
            "Send the content as PlainText, or encode it in Base64.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_NAME_INVALID: ExecutionError(
            "the file name is invalid",
            "The instance does not accept the file name.",
            "Choose a name without `/`.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_PATH_INVALID: ExecutionError(
            "the file path is invalid",
            "The target directory is not a directory, or its path is not absolute.",
            "Correct the path.",
            commands=False,
            files=True,
        ),
        ErrorCode.FILE_AUTHORITY_INVALID: ExecutionError(
            "the file authority is invalid",
            "The agent cannot set the owner, the group or the mode of the file.",
            "Correct the values, or run the agent as a user with the permission.",
            commands=False,
            files=True,
        ),
    }
)

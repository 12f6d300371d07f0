"""The library of kept commands and their versions, read from the topic `commands`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from heliograph.bus.base import Bus
from producers.assistant.caller import Caller, read_requests
from producers.assistant.requests import Command, DeleteCommand, KeepCommand, ModifyCommand, Request
from producers.assistant.signing import Keys
from schemas.errors import InputError, NotFound


class Version(msgspec.Struct, frozen=True):
    """One version of a kept command. `number`: from 1; `created`: milliseconds since the epoch."""

    number: int
    created: int
    command: Command


Library = Mapping[str, Sequence[Version]]
"""Versions by command id, the latest version last."""


def read_library(bus: Bus, keys: Keys, region: str) -> Library:
    """Reads the kept commands of a region."""
    kept: dict[str, list[Version]] = {}
    for request in read_requests(bus, keys, kinds=("keep", "modify", "delete")):
        if request.region == region:
            _apply(kept, request)
    return kept


def find_version(kept: Library, id_or_name: str, number: int | None = None) -> Version:
    """Returns a version of the command with this id or name: version `number`, or the latest. Raises NotFound, and
    InputError if several commands have the name."""
    found = [versions for key, versions in kept.items() if id_or_name in {key, versions[-1].command.name}]
    if not found:
        raise NotFound(
            f"command {id_or_name!r}: no such command; `heliograph assistant command list` shows all kept commands"
        )
    if len(found) > 1:
        ids = ", ".join(versions[-1].command.command_id for versions in found)
        raise InputError(
            f"command {id_or_name!r}: several commands have this name; give one of their ids: {ids}"
        )
    for one in reversed(found[0]):
        if number in {None, one.number}:
            return one
    raise NotFound(f"command {id_or_name!r}: has no version {number}; the latest is {found[0][-1].number}")


def keep_command(caller: Caller, command: Command) -> Command:
    """Keeps a new command, or the next version of one whose id is known. Raises InputError if the quota is used up."""
    kept = read_library(caller.bus, caller.keys, caller.region)
    count = sum(map(len, kept.values()))
    if count >= caller.quotas.kept_commands:
        raise InputError(
            f"{count} commands and versions are kept in {caller.region}, the limit; "
            "delete some, or raise [assistant] kept_commands"
        )
    caller.append([KeepCommand(*caller.new_header(), command=command)])
    return command


def modify_command(
    caller: Caller,
    command_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: int | None = None,
) -> None:
    """Changes the given properties of the latest version of a kept command. Raises InputError."""
    caller.append(
        [
            ModifyCommand(
                *caller.new_header(),
                command_id=command_id,
                name=name,
                description=description,
                timeout=timeout,
            )
        ]
    )


def delete_commands(caller: Caller, command_ids: Sequence[str]) -> None:
    """Deletes commands with all their versions."""
    caller.append([DeleteCommand(*caller.new_header(), command_id=command_id) for command_id in command_ids])


def _apply(kept: dict[str, list[Version]], request: Request) -> None:
    match request:
        case KeepCommand(command=command):
            versions = kept.setdefault(command.command_id, [])
            number = versions[-1].number + 1 if versions else 1
            versions.append(Version(number, request.time, command))
        case ModifyCommand(command_id=command_id) if command_id in kept:
            latest = kept[command_id][-1]
            kept[command_id][-1] = msgspec.structs.replace(latest, command=_modified(latest.command, request))
        case DeleteCommand(command_id=command_id):
            kept.pop(command_id, None)
        case _:
            pass


def _modified(command: Command, by: ModifyCommand) -> Command:
    return msgspec.structs.replace(
        command,
        name=command.name if by.name is None else by.name,
        description=command.description if by.description is None else by.description,
        timeout=command.timeout if by.timeout is None else by.timeout,
    )

"""Users and groups of the host: the user that runs a command, and the owner of a file."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from producers.assistant.refusal import Refusal
from schemas.execution_errors import ErrorCode

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the host. `other`: True if it is not the user of this process."""

    name: str
    uid: int
    gid: int
    home: Path
    other: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a command that runs as this user. It contains nothing of the agent's environment."""
        return {
            "PATH": PATH,
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
        }


def find_account(username: str) -> Account:
    """Returns the user of that name, or the user of this process for an empty name. Raises Refusal if the user does not
    exist, or if this process may not act as that user."""
    me = os.geteuid()
    try:
        found = pwd.getpwnam(username) if username else pwd.getpwuid(me)
    except KeyError:
        if username:
            raise Refusal(ErrorCode.ACCOUNT_NOT_EXISTS, username) from None
        return Account(name=str(me), uid=me, gid=os.getegid(), home=Path("/"), other=False)
    other = found.pw_uid != me
    if other and me != 0:
        raise Refusal(
            ErrorCode.ACCOUNT_NOT_EXISTS,
            f"the agent runs as {find_account('').name} and may not act as {username}; "
            "leave Username out, or run an agent as that user",
        )
    return Account(
        name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, home=Path(found.pw_dir), other=other
    )


def read_groups(account: Account) -> list[int]:
    """Returns the ids of all groups of a user."""
    return os.getgrouplist(account.name, account.gid)


def owner_ids(owner: str, group: str) -> tuple[int, int]:
    """Returns the user id of `owner` and the group id of `group`; -1, which changes nothing, for an empty name. Raises
    Refusal for an unknown name."""
    unknown = owner
    try:
        uid = pwd.getpwnam(owner).pw_uid if owner else -1
        unknown = f"group {group}"
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise Refusal(ErrorCode.ACCOUNT_NOT_EXISTS, unknown) from None
    return uid, gid

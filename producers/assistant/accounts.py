"""Users and groups of the host: whom a command runs as, and who owns a file."""

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


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the host. `other`: whether it is not the one that this process runs as."""

    name: str
    uid: int
    gid: int
    home: Path
    other: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """All that a command of this user gets of an environment: nothing of the agent's own."""
        return {
            "PATH": PATH,
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
        }


def find_account(username: str) -> Account:
    """The user to run as; the one this process runs as for no name. Raises Refusal for one that does not exist, or
    that this process may not act as."""
    me = os.geteuid()
    try:
        found = pwd.getpwnam(username) if username else pwd.getpwuid(me)
    except KeyError:
        if username:
            raise Refusal(ErrorCode.ACCOUNT_NOT_EXISTS, username) from None
        return Account(str(me), me, os.getegid(), Path("/"), other=False)
    other = found.pw_uid != me
    if other and me != 0:
        raise Refusal(
            ErrorCode.ACCOUNT_NOT_EXISTS,
            f"the agent runs as {find_account('').name} and may not act as {username}; "
            "leave Username out, or run an agent as that user",
        )
    return Account(found.pw_name, found.pw_uid, found.pw_gid, Path(found.pw_dir), other)


def read_groups(who: Account) -> list[int]:
    """All groups of a user."""
    return os.getgrouplist(who.name, who.gid)


def owner_ids(owner: str, group: str) -> tuple[int, int]:
    """User id and group id of names; -1, which changes nothing, for none. Raises Refusal for one that is unknown."""
    unknown = owner
    try:
        uid = pwd.getpwnam(owner).pw_uid if owner else -1
        unknown = f"group {group}"
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise Refusal(ErrorCode.ACCOUNT_NOT_EXISTS, unknown) from None
    return uid, gid

"""The account that a process of the gateway becomes so as to be root no longer: the site's `user`."""

import os
import pwd
from typing import Final, NamedTuple

SHARED: Final = frozenset({"nobody", "nfsnobody", "www-data", "daemon"})
"""Accounts that other services use, too."""


class NoAccount(Exception):
    """This machine does not have the site's user; the text says what to do."""


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def of(user: str, remedy: str = "set `user:` in the site file") -> Account | None:
    """Return the account of `user`, or None to stay the present one: root was asked for, or this process is not root.

    Raises NoAccount; its text ends with `remedy`.
    """
    if os.geteuid() != 0 or user == "root":
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise NoAccount(f"there is no user {user} on this machine; {remedy}") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def doubt(user: str) -> str:
    """Return what is wrong with becoming `user`, or an empty text. Only root can become another user."""
    if os.geteuid() != 0 or user not in SHARED:
        return ""
    return (
        f"user: {user} is an account that other programs share: they can signal the gateway's processes. "
        "Make one of its own (conf/gateway.sysusers.conf) and write `user: gateway`"
    )

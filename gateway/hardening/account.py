"""The account that the processes of the gateway but the supervisor become: the site's `user`."""

import os
import pwd
from typing import Final, NamedTuple

from gateway.hardening import kernel

SHARED: Final = frozenset({"nobody", "nfsnobody", "www-data", "daemon"})
"""Accounts that other services use, too."""
_CHANGE: Final = frozenset({6, 7})
"""CAP_SETGID and CAP_SETUID, capabilities(7)."""


class NoAccount(Exception):
    """This machine does not have the site's user; the text says what to do."""


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def changeable() -> bool:
    """Tell whether this process may become another user: as root, or by conf/gateway-keys.conf."""
    return os.geteuid() == 0 or kernel.capabilities() >= _CHANGE


def of(user: str, remedy: str = "set `user:` in the site file") -> Account | None:
    """Return the account of `user`, or None to stay the present one: root was asked for, or no other one is possible.

    Raises NoAccount; its text ends with `remedy`.
    """
    if not changeable() or user == "root":
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise NoAccount(f"there is no user {user} on this machine; {remedy}") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def doubt(user: str) -> str:
    """Return what is wrong with becoming `user`, or an empty text."""
    if not changeable() or user not in SHARED:
        return ""
    return (
        f"user: {user} is an account that other programs share: they can signal the gateway's processes. "
        "Make one of its own (conf/gateway.sysusers.conf) and write `user: gateway`"
    )

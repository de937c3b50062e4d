"""The account that a process of the gateway becomes so as to be root no longer: the site's `user`."""

import ctypes
import os
import pwd
from typing import Final, NamedTuple

from gateway.config import Site

_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS of prctl(2)


class NoAccount(Exception):
    """This machine does not have the site's user; the text says what to do."""


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def of(site: Site) -> Account | None:
    """Whom to become, or None where there is nothing to give up. Raises NoAccount."""
    if os.geteuid() != 0 or site.user == "root":
        return None
    try:
        entry = pwd.getpwnam(site.user)
    except KeyError:
        raise NoAccount(f"there is no user {site.user} on this machine; set `user:` in the site file") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def become(account: Account | None) -> None:
    """Become `account` for good; None stays who it is. No program that it runs gets more rights, setuid or not.

    Raises OSError.
    """
    if account is not None:
        os.initgroups(account.name, account.gid)
        os.setgid(account.gid)
        os.setuid(account.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot set no_new_privs")

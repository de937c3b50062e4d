"""Confines a process to its role: the last step before it works, when it has all that it needs."""

import contextlib
import logging
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gateway
from gateway.config.model import Site
from gateway.hardening import account, kernel, landlock, seccomp
from gateway.hardening.account import Account
from gateway.hardening.roles import Role

log = logging.getLogger(__name__)

_PACKAGES: Final = ("gateway", "loadagent", "qos")
"""Ours, wherever they are installed."""
_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_SYSTEM: Final = (
    *("/proc", "/sys/devices/system/cpu", "/dev/null", "/dev/urandom"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/usr/share/zoneinfo"),
)
_NAMES: Final = (
    *("/etc/resolv.conf", "/run/systemd/resolve", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/host.conf", "/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates"),
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The settings of a site file for the confinement of its processes."""

    sandbox: bool = True
    """Filters of system calls, and rules about files."""
    core_dumps: bool = False
    """Memory may be dumped, and read by debuggers of the same user."""
    readable: tuple[Path, ...] = ()
    """What Python rules may open beyond Python's own files."""

    @classmethod
    def of(cls, described: Site) -> "Bounds":
        """Return the settings of a site file."""
        sandbox = described.sandbox
        return cls(sandbox is not None, described.core_dumps, sandbox.read if sandbox is not None else ())


def become(who: Account | None, role: Role) -> None:
    """Switch to the account `who`, and keep only the role's capabilities. Raises OSError.

    None changes no user. With a role that keeps what it was started with, nothing changes.
    """
    if role.capabilities is None:
        return
    if who is not None:
        if role.capabilities:
            kernel.keep_capabilities()
        os.initgroups(who.name, who.gid)
        os.setgid(who.gid)
        os.setuid(who.uid)
    kernel.set_capabilities(tuple(role.capabilities))


def protect(bounds: Bounds) -> None:
    """Apply what every process gets, whatever its role: no new privileges, no access to its memory."""
    kernel.forbid_new_privileges()
    if bounds.core_dumps:
        kernel.show_memory()
    else:
        kernel.hide_memory()


def forbid_root() -> None:
    """Keep a supervisor that may change users, but is not root, and all that it starts from becoming root.

    Raises OSError.
    """
    if os.geteuid() != 0 and account.changeable():
        with contextlib.suppress(seccomp.Unavailable):
            seccomp.forbid_root()


def confine(role: Role, bounds: Bounds, writable: Sequence[Path] = ()) -> None:
    """Confine this process to its role, irrevocably. A change of the user before this undoes `protect`, which is
    repeated. `writable`: directories of a role that writes files.

    What the kernel does not offer is left out: `shortcomings` says so once for all processes. Raises OSError.
    """
    protect(bounds)
    confine_thread(role, bounds, writable)
    if bounds.sandbox and role.filter is not None:
        with contextlib.suppress(seccomp.Unavailable):
            seccomp.install(role.filter)


def settle(who: Account | None, role: Role, bounds: Bounds) -> None:
    """Switch to the account `who` and confine this process to its role. Raises OSError."""
    become(who, role)
    confine(role, bounds)


def confine_thread(role: Role, bounds: Bounds, writable: Sequence[Path] = ()) -> None:
    """Apply the rules about files to this thread, which was started before those of its process. Raises OSError."""
    if bounds.sandbox and role.reads != "anything":
        with contextlib.suppress(landlock.Unavailable):
            landlock.restrict(_readable(role, bounds.readable), writable)


def active(bounds: Bounds) -> dict[str, bool]:
    """Return which parts of the confinement hold the processes of this machine."""
    abi = 0
    with contextlib.suppress(landlock.Unavailable):
        abi = landlock.version()
    return {"seccomp": bounds.sandbox and not seccomp.available(), "landlock": bounds.sandbox and abi > 0}


def shortcomings(bounds: Bounds) -> list[str]:
    """Return the parts of the confinement that are off or that this machine lacks, as lines for the log."""
    if not bounds.sandbox:
        return ["sandbox: disabled in the site file; only user accounts limit the processes"]
    said = []
    if why := seccomp.available():
        said.append(f"sandbox: no system call filter: {why}")
    try:
        gaps = landlock.missing(landlock.version())
    except landlock.Unavailable as error:
        said.append(f"sandbox: no file access rules: {error}")
    else:
        if gaps:
            said.append(f"sandbox: this kernel cannot restrict {' and '.join(gaps)}")
    return said


def _readable(role: Role, more: Sequence[Path]) -> set[Path]:
    """The paths of a role, with all places where Python looks for modules: it may load some at any time."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *site.getsitepackages()}
    places |= set(sys.path) | set(_LIBRARIES) | set(_SYSTEM)
    top = Path(gateway.__file__).parents[1]
    places |= {str(top / package) for package in _PACKAGES}
    if role.reads == "names":
        places |= set(_NAMES)
    # Python itself may be in /usr: its libraries are, and nothing secret. A directory such as / as a place for modules
    # would take everything with it.
    return {Path(place) for place in places if place.startswith("/") and len(Path(place).parts) > 1} | set(more)

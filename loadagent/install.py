"""Installs a load agent as a service: its file, its key, a systemd unit. Plans everything before it writes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from loadagent.config import Loc

AGENT_FILE: Final = Path("/etc/gateway/agent.yaml")
KEY_FILE: Final = Path("/etc/gateway/agent.key")
UNIT_FILE: Final = Path("/etc/systemd/system/loadagent.service")
USER: Final = "loadagent"
HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what ProtectHome and PrivateTmp hide

UNIT: Final = """\
[Unit]
Description=Load agent of the HTTP gateway
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User=loadagent
ExecStart={program} run {agent_file}
Restart=always
RestartSec=1s
# It measures by reading /proc; beyond that it needs two files and the network. A `command:` runs under the same limits.
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The agent disables core dumps itself.
SystemCallFilter=prlimit64 setrlimit
SystemCallErrorNumber=EPERM
MemoryMax=128M

[Install]
WantedBy=multi-user.target
"""

Run = Callable[[Sequence[str]], None]


class CannotInstall(Exception):
    """Nothing was installed, or a step failed; the message says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """The system to install into: `root` is / or the root of an image; `program` is the agent's path in the unit."""

    root: Path
    program: Path

    @property
    def live(self) -> bool:
        """Whether this is the running system, where the agent can be started."""
        return self.root == Path("/")

    def at(self, path: Path) -> Path:
        """The path by which this process reaches a path of the target."""
        return self.root / path.relative_to("/")


@dataclass(frozen=True, slots=True)
class File:
    """A file to write; only its owner can read a secret one."""

    path: Path
    content: bytes
    secret: bool = False


def unit(program: Path, agent_file: Path = AGENT_FILE) -> str:
    """The systemd unit. Raises CannotInstall if systemd could not run the program."""
    hidden = next((place for place in HIDDEN if program.is_relative_to(place)), None)
    if hidden:
        message = f"a service cannot see {program}: install the package outside of {hidden}, such as in /opt or /usr"
        raise CannotInstall(message)
    if any(char.isspace() or char in "%\"'\\" for char in str(program)):
        raise CannotInstall(f"systemd would misread {str(program)!r}")
    return UNIT.format(program=program, agent_file=agent_file)


def files(target: Target, options: dict[Loc, object], key: bytes | None, *, replace: bool) -> list[File]:
    """Everything to write. Raises CannotInstall if that would overwrite a file with other content."""
    wanted = [File(target.at(UNIT_FILE), unit(target.program).encode())]
    agent_file = target.at(AGENT_FILE)
    if not options:
        if not agent_file.exists():
            raise CannotInstall("nothing to do: set --gateways and --key-file, or --listen")
        return wanted  # the existing file stays in use
    if agent_file.exists() and not replace:
        raise CannotInstall(f"{agent_file} exists: edit it and leave out the options, or add --replace")
    if key is not None:
        wanted.insert(0, File(target.at(KEY_FILE), key, secret=True))
        options = {**options, ("key_file",): KEY_FILE.name}
    text = "# Written by `loadagent install`; every key is explained in conf/agent.yaml of the project.\n"
    text += yaml.safe_dump(_nested(options), sort_keys=False)
    wanted.insert(-1, File(agent_file, text.encode()))
    return wanted


def install(target: Target, wanted: Sequence[File], run: Run, users: Callable[[str], object]) -> Iterator[str]:
    """Write the files, and start the agent if this is the running system; yield the steps. Raises CannotInstall.

    `run` runs a program, `users` looks up a user and raises KeyError.
    """
    if target.live:
        try:
            users(USER)
        except KeyError:
            run(["useradd", "--system", "--home-dir", "/", "--no-create-home", "--shell", "/usr/sbin/nologin", USER])
            yield f"created the user {USER}"
    for file in wanted:
        _write(file)
        if file.secret and target.live:
            run(["chown", f"{USER}:", str(file.path)])
        yield f"wrote {file.path}"
    if not target.live:
        yield f"to do in the image: create the user {USER} as owner of {KEY_FILE}; systemctl enable loadagent"
    elif Path("/run/systemd/system").is_dir():
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "enable", "loadagent"])
        run(["systemctl", "restart", "loadagent"])
        yield "loadagent is running; its log: journalctl -u loadagent"
    else:
        yield f"no systemd on this machine; run as {USER}: {target.program} run {AGENT_FILE}"


def run_program(command: Sequence[str]) -> None:
    """Run a program of the system. Raises CannotInstall with its error output."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise CannotInstall(f"program {command[0]} not found") from None
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"{' '.join(command)}: {error.stderr.strip() or error}") from None
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{' '.join(command)}: no exit within a minute") from None


def program(called: str) -> Path:
    """The absolute path of the running program. Raises CannotInstall."""
    found = shutil.which(called)
    if found is None:
        raise CannotInstall(f"cannot find the program {called}")
    return Path(found).absolute()


def _nested(options: dict[Loc, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for place, value in options.items():
        inner = tree
        for name in place[:-1]:
            inner = inner.setdefault(str(name), {})
        inner[str(place[-1])] = value
    return tree


def _write(file: File) -> None:
    """Write the whole file, or nothing. Raises CannotInstall."""
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.path.name}.", dir=file.path.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(file.content)
            Path(name).chmod(0o400 if file.secret else 0o644)
            Path(name).replace(file.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotInstall(f"cannot write {file.path}: {error.strerror}") from None

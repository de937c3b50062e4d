"""Makes a load agent a service of this machine: its file, its key, a systemd unit. Plans first, writes after."""

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
# What it measures is in /proc; beyond that it needs two files and the network. A `command:` runs under the same limits.
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
# It forbids itself core dumps.
SystemCallFilter=prlimit64 setrlimit
SystemCallErrorNumber=EPERM
MemoryMax=128M

[Install]
WantedBy=multi-user.target
"""

Run = Callable[[Sequence[str]], None]


class CannotInstall(Exception):
    """Why nothing was installed, or what of it failed."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to install: `root` is / or the root of an image, `program` how the unit calls the agent."""

    root: Path
    program: Path

    @property
    def live(self) -> bool:
        """Whether it is this machine, which can be told to start the agent."""
        return self.root == Path("/")

    def at(self, path: Path) -> Path:
        """Where a path of the target is for us."""
        return self.root / path.relative_to("/")


@dataclass(frozen=True, slots=True)
class File:
    """A file to write; a secret one is its owner's alone."""

    path: Path
    content: bytes
    secret: bool = False


def unit(program: Path, agent_file: Path = AGENT_FILE) -> str:
    """The systemd unit. Raises CannotInstall if it could not run the program."""
    hidden = next((place for place in HIDDEN if program.is_relative_to(place)), None)
    if hidden:
        message = f"a service does not see {program}: install the package outside of {hidden}, such as in /opt or /usr"
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
            raise CannotInstall("what should the agent do? Give --gateways and --key-file, or --listen")
        return wanted  # the file that is there goes on
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
    """Write the files, and on this machine start the agent; yield what was done. Raises CannotInstall.

    `run` runs a program, `users` looks up a user and raises KeyError.
    """
    if target.live:
        try:
            users(USER)
        except KeyError:
            run(["useradd", "--system", "--home-dir", "/", "--no-create-home", "--shell", "/usr/sbin/nologin", USER])
            yield f"made the user {USER}"
    for file in wanted:
        _write(file)
        if file.secret and target.live:
            run(["chown", f"{USER}:", str(file.path)])
        yield f"wrote {file.path}"
    if not target.live:
        yield f"left to do there: the user {USER}, who owns {KEY_FILE}; systemctl enable loadagent"
    elif Path("/run/systemd/system").is_dir():
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "enable", "loadagent"])
        run(["systemctl", "restart", "loadagent"])
        yield "loadagent runs: journalctl -u loadagent"
    else:
        yield f"there is no systemd here; run as {USER}: {target.program} run {AGENT_FILE}"


def run_program(command: Sequence[str]) -> None:
    """Run one of the system's programs. Raises CannotInstall with what it said."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise CannotInstall(f"there is no program {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"{' '.join(command)}: {error.stderr.strip() or error}") from None
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{' '.join(command)}: no end after a minute") from None


def program(called: str) -> Path:
    """The absolute path of the program that was called. Raises CannotInstall."""
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
    """All of it, or nothing. Raises CannotInstall."""
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

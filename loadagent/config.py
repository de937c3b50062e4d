"""Reads, checks and types the agent file, `agent.yaml`. All problems are reported together, with line and column."""

import contextlib
import difflib
import errno
import math
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from loadagent.door import PRIVATE, Network
from loadagent.report import NAME, State, parse_key

MAX_FILE_BYTES = 64 * 1024

Loc = tuple[str | int, ...]


class Endpoint(NamedTuple):
    """A host name or IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(value: object) -> Endpoint:
    """Read `host:port` or `[v6]:port`."""
    if isinstance(value, Endpoint):
        return value
    match = (
        re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", value) if isinstance(value, str) else None
    )
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError('expected an address and a port such as "192.0.2.1:8201" or "[2001:db8::1]:8201"')
    return Endpoint(match[1] or match[2], int(match[3]))


def network(value: object) -> Network:
    """Read a network, or the address of one machine."""
    with contextlib.suppress(ValueError):
        if isinstance(value, IPv4Network | IPv6Network | str):
            return ip_network(value)
    raise ValueError('expected a network or an address such as "10.0.0.0/8" or "192.0.2.7"')


def seconds(value: object) -> float:
    """Read a duration: a number and ms, s, m or h."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|h)", value) if isinstance(value, str) else None
    result = float(match[1]) * units[match[2]] if match else 0.0
    if not 0.1 <= result <= 3600.0:
        raise ValueError("expected a duration between 100ms and 1h, such as 500ms or 5s")
    return result


def bit_rate(value: object) -> float:
    """Read bits per second: a number and bit, kbit, Mbit or Gbit."""
    units = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMG]?)bit", value) if isinstance(value, str) else None
    if not match or float(match[1]) == 0.0:
        raise ValueError("expected bits per second such as 100Mbit or 1Gbit")
    return float(match[1]) * units[match[2]]


def positive(value: object) -> float:
    """Read a limit that is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError("expected a number above 0")
    return float(value)


def share(value: object) -> float:
    """Read a limit that is a share of the whole."""
    number = positive(value)
    if number > 1.0:
        raise ValueError("expected a share above 0 and up to 1.0")
    return number


def name(value: object) -> str:
    """Read a server's or backend's name, as the gateway's site file spells it."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("expected a name of up to 64 letters, digits and . _ : -")
    return value


def text(value: object) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    return value


def url(value: object) -> str:
    """Read an HTTP URL."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/]+(?:/\S*)?", value):
        raise ValueError('expected a URL such as "http://127.0.0.1:8080/load"')
    return value


def state(value: object) -> State:
    """Read the admin state."""
    if isinstance(value, State):
        return value
    words = [member.name.lower() for member in State]
    if value not in words:
        raise ValueError(f"expected {', '.join(words[:-1])} or {words[-1]}{_did_you_mean(str(value), words)}")
    return State[str(value).upper()]


def default_name() -> str:
    """Return the host name if it is valid as a server's name."""
    return name(socket.gethostname())


Name = Annotated[str, BeforeValidator(name)]
Seconds = Annotated[float, BeforeValidator(seconds)]
Positive = Annotated[float, BeforeValidator(positive)]
Share = Annotated[float, BeforeValidator(share)]
Text = Annotated[str, BeforeValidator(text)]
Url = Annotated[str, BeforeValidator(url)]
BitRate = Annotated[float, BeforeValidator(bit_rate)]
StateWord = Annotated[State, BeforeValidator(state)]
Address = Annotated[Endpoint, BeforeValidator(endpoint)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(network)], ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
]
File = Annotated[Path, BeforeValidator(lambda value: value if isinstance(value, Path) else Path(text(value)))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class NetworkMetric(_Part):
    """Traffic of one interface; `bits` per second are full."""

    interface: Text
    bits: BitRate


class CommandMetric(_Part):
    """A number printed by a program."""

    run: Text
    full: Positive
    every: Seconds = 5.0


class UrlMetric(_Part):
    """A number returned by a URL."""

    get: Url
    full: Positive
    every: Seconds = 1.0


class Metrics(_Part):
    """The metrics that make up the load, each with the value at which it counts as full."""

    cpu: Share | None = None
    run_queue: Positive | None = None
    memory: Share | None = None
    network: NetworkMetric | None = None
    command: CommandMetric | None = None
    url: UrlMetric | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The limit of each configured metric, in the metric's unit."""
        found = {
            "cpu": self.cpu,
            "run_queue": self.run_queue,
            "memory": self.memory,
            "network": self.network.bits if self.network else None,
            "command": self.command.full if self.command else None,
            "url": self.url.full if self.url else None,
        }
        return {metric: limit for metric, limit in found.items() if limit is not None}


class AgentConfig(_Part):
    """A whole agent file. Durations are in seconds; paths are as this process can open them."""

    server: Name = Field(default_factory=default_name)
    backend: Name | None = None
    gateways: Addresses = ()
    key_file: File | None = None
    interval: Seconds = 0.5
    listen: Address | None = None
    allow: Networks = PRIVATE
    metrics: Metrics = Metrics(cpu=1.0, run_queue=2.0, memory=0.95)
    state: StateWord = State.READY
    state_file: File | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `line` and `column` count from 1; both are 0 for a problem that is not in the file."""

    source: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return (
            f"{self.source}:{self.line}:{self.column}: {self.message}"
            if self.line
            else f"{self.source}: {self.message}"
        )


class ConfigError(Exception):
    """The configuration is not valid; `problems` are in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path | None, options: Mapping[Loc, object]) -> AgentConfig:
    """Read an agent file, if there is one; command-line options override it. Raises ConfigError.

    `options` maps the place of a key, such as ("metrics", "cpu"), to its value. A relative path in
    the file is relative to the file.
    """
    source = _Source(path, options)
    config = None
    try:
        config = AgentConfig.model_validate(source.data)
    except ValidationError as error:
        for entry in error.errors():
            place, message = _explain(entry["type"], entry["loc"], entry.get("ctx", {}))
            source.complain(place, message, at_key=entry["type"] == "extra_forbidden")
    if config and config.key_file:
        # A relative path is relative to the file that contains it.
        base = path.parent if path and ("key_file",) not in options else Path()
        key_file = base / config.key_file
        config = config.model_copy(update={"key_file": key_file})
        try:
            read_key(key_file)
        except OSError as error:
            source.complain(("key_file",), f"cannot read {key_file}: {error.strerror}")
        except ValueError as error:
            source.complain(("key_file",), str(error))
    if config and path:
        base = path.parent if ("state_file",) not in options else Path()
        state_file = base / config.state_file if config.state_file else path.with_name(path.name + ".state")
        config = config.model_copy(update={"state_file": state_file})
    if config and config.gateways and not config.key_file:
        source.complain(("gateways",), "reports to gateways are signed: key_file is missing")
    if source.problems or not config:
        raise ConfigError(source.problems)
    return config


def read_key(path: Path) -> bytes:
    """Return the key in a file. Raises OSError, or ValueError if other users can read it or it has no valid key."""
    content, status = read_file(path)
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"other users can read this key; run: chmod 600 {path}")
    return parse_key(content[:MAX_FILE_BYTES])


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """At most MAX_FILE_BYTES + 1 of a regular file, and its status. Raises OSError; does not block on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(MAX_FILE_BYTES + 1), status


class _Source:
    """The raw keys and values, their positions, and the problems found so far."""

    def __init__(self, path: Path | None, options: Mapping[Loc, object]) -> None:
        self.data: dict[Any, Any] = {}
        self.problems: list[Problem] = []
        self._name = str(path) if path else "options"
        self._options = options
        self._keys: dict[Loc, yaml.Mark] = {}
        self._values: dict[Loc, yaml.Mark] = {}
        if path:
            self._read(path)
        for place, value in options.items():
            self._put(place, value)

    def complain(self, place: Loc, message: str, *, at_key: bool = False) -> None:
        """Record a problem at a place of the file, or at the nearest enclosing one."""
        if place in self._options:
            flag = "-".join(str(part) for part in place if part != "metrics").replace("_", "-")
            self.problems.append(Problem(f"--{flag}", 0, 0, message))
            return
        marks = self._keys if at_key else self._values
        while place and place not in marks:
            place = place[:-1]
        mark = marks.get(place)
        self._complain_at(mark, message)

    def _complain_at(self, mark: yaml.Mark | None, message: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        self.problems.append(Problem(self._name, line, column, message))

    def _read(self, path: Path) -> None:
        try:
            content, _ = read_file(path)
            if len(content) > MAX_FILE_BYTES:
                self._complain_at(None, f"longer than {MAX_FILE_BYTES} bytes")
                return
            loader = yaml.SafeLoader(content)
            node = loader.get_single_node()
            if node is None:
                return
            self._locate(node, (), set())
            data = loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            self._complain_at(error.problem_mark, error.problem or "not YAML")
        except OSError as error:
            self._complain_at(None, f"cannot be read: {error.strerror}")
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self._complain_at(None, f"not YAML: {error}")
        else:
            if isinstance(data, dict):
                self.data = data
            else:
                self._complain_at(node.start_mark, "expected keys and values such as `server: app1`")

    def _locate(self, node: yaml.Node, place: Loc, seen: set[int]) -> None:
        """Record all positions; refuse YAML that could expand without bounds or hide a key."""
        if id(node) in seen:
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed in an agent file", node.start_mark)
        seen.add(id(node))
        self._values[place] = node.start_mark
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._locate(item, (*place, index), seen)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                if inner in self._keys:
                    self._complain_at(key.start_mark, f"{key.value} is given twice")
                self._keys[inner] = key.start_mark
                self._locate(value, inner, seen)

    def _put(self, place: Loc, value: object) -> None:
        *outer, last = place
        inner = self.data
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                return  # the file has something else in this place, which is reported separately
        inner[last] = value


def _explain(kind: str, place: Loc, context: Mapping[str, Any]) -> tuple[Loc, str]:
    """Convert a problem of the model to plain words: its place and the message."""
    *outer, last = place
    if kind == "extra_forbidden":
        return place, f"unknown key {last}{_did_you_mean(str(last), _keys_of(outer))}"
    if kind == "missing":
        return tuple(outer), f"{last} is missing"
    if kind == "value_error":
        return place, str(context["error"])
    return place, "expected keys and values in braces or on lines of their own"


def _keys_of(place: list[str | int]) -> list[str]:
    models: dict[Loc, type[BaseModel]] = {
        (): AgentConfig,
        ("metrics",): Metrics,
        ("metrics", "network"): NetworkMetric,
        ("metrics", "command"): CommandMetric,
        ("metrics", "url"): UrlMetric,
    }
    return list(models[tuple(place)].model_fields)


def _did_you_mean(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {near[0]}?)" if near else ""

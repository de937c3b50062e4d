"""Addresses in the site file: of listeners and of servers."""

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

_PORT: Final = re.compile(r"[0-9]{1,5}")
_LABELS: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
)
_NUMERIC: Final = re.compile(r"[0-9.]+")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:-]+")
_MAX_UNIX_PATH: Final = 107
"""Bytes: `sun_path` of unix(7) less its terminating zero."""
_MAX_PORT: Final = 65535

UNIX: Final = "unix"
"""In trusted_proxies: all clients that connect to a Unix socket."""


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on: `host` is an IP address without brackets; or the `path` of a Unix socket alone."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """The host and port of a request that names none (HTTP/1.0)."""
        return "localhost" if self.path else str(self)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """The address of a server: `host` (IP address without brackets, or a name) and `port`, or a socket's `path`.

    With kind dns, each record of the name `host` is a server; `port` may be 0 if the records have ports (SRV).
    """

    kind: Literal["tcp", "unix", "dns"]
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False
    """It was written with https://."""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "dns":
            return f"dns:{self.host}:{self.port}" if self.port else f"dns:{self.host}"
        return str(Listen(self.host, self.port))

    @property
    def is_literal(self) -> bool:
        """Whether it needs no name resolution."""
        return self.kind == "unix" or _ip(self.host) is not None

    @property
    def is_localhost(self) -> bool:
        """Whether it names this machine as localhost, which is 127.0.0.1 and ::1 (RFC 6761 section 6.3)."""
        return self.kind == "tcp" and self.host.rstrip(".").lower() == "localhost"

    @property
    def token(self) -> str:
        """The address as a server name: safe in a cookie value and in a log line."""
        if self.kind == "unix":
            return "unix:" + _UNSAFE.sub("-", self.path.strip("/"))
        if self.kind == "dns":
            return self.host.removesuffix(".")
        return f"{self.host}:{self.port}"


def other_localhost(ip: str) -> str:
    """The address of localhost in the other family."""
    return "127.0.0.1" if ":" in ip else "::1"


def _ip(host: str) -> str | None:
    """`host` in the canonical form of RFC 5952 if it is an IP address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address.compressed


def is_ip(text: str) -> bool:
    """Whether a text is an IP address, and not a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _split(text: str, example: str) -> tuple[str, int]:
    """The host, without brackets, and port in `text`."""
    if "://" in text:
        raise ValueError(f"remove the scheme: expected {example}")
    if " " in text.strip():
        raise ValueError(f"an address has no blanks, what follows is a key of its own: expected {example}")
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port):
        raise ValueError(f"expected {example}" if colon or not text else f"{text} needs a port: expected {example}")
    if not 1 <= int(port) <= _MAX_PORT:
        raise ValueError(f"a port is between 1 and {_MAX_PORT}")
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"put an IPv6 address in brackets: [{host}]:{port}?")
    return host, int(port)


def listen(text: str) -> Listen:
    """Parse "ip:port" or "[ipv6]:port". Raises ValueError."""
    example = "address:port such as 0.0.0.0:8080 or [::]:443"
    host, port = _split(text, example)
    ip = _ip(host)
    if ip is None:
        raise ValueError(f"{host} is not an IP address: expected {example}{_anywhere(host, port)}")
    return Listen(ip, port)


def _anywhere(host: str, port: int) -> str:
    return f' (did you mean ":{port}"?)' if host == "*" else ""


def entrance(text: str) -> Listen:
    """Parse "ip:port", "[ipv6]:port" or "unix:/path". Raises ValueError."""
    if text.startswith("/"):
        raise ValueError(f"a Unix socket is written with unix: before its path (did you mean unix:{text}?)")
    return Listen("", 0, _unix_path(text)) if text.startswith("unix:") else listen(text)


def _unix_path(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or len(path.encode()) > _MAX_UNIX_PATH or not path.isprintable():
        raise ValueError(f"expected unix: and an absolute path of at most {_MAX_UNIX_PATH} bytes")
    return path


def server_address(text: str) -> Address:
    """Parse "ip:port", "[ipv6]:port", "hostname:port", each also after https://, "dns:name:port" or "unix:/path".

    Raises ValueError.
    """
    if text.startswith("https://"):
        return _https(text.removeprefix("https://"))
    if text.startswith("unix:"):
        return Address("unix", path=_unix_path(text))
    if text.startswith("dns:"):
        return _records(text.removeprefix("dns:"))
    host, port = _split(
        text, "address:port such as 10.0.0.11:8080, [2001:db8::1]:8080, app.internal:8080 or unix:/path"
    )
    ip = _ip(host)
    if ip is None and (_NUMERIC.fullmatch(host) or not _LABELS.fullmatch(host)):
        raise ValueError(f"{host} is neither an IP address nor a host name")
    return Address("tcp", ip or host.lower(), port)


def _https(text: str) -> Address:
    """Parse what follows https://; the port is 443 if there is none."""
    place, slash, path = text.partition("/")
    if place.startswith("dns:"):
        raise ValueError("leave https:// out before dns: and say tls: true for the backend")
    if place.startswith("unix:"):
        raise ValueError("TLS is not spoken on a Unix socket, which stays on this machine")
    if path:
        raise ValueError(f"a server has no path: leave {slash}{path} out")
    if not _PORT.fullmatch(place.rpartition(":")[2]):
        place += ":443"
    return replace(server_address(place), tls=True)


def _records(text: str) -> Address:
    """Parse "name:port", or "_service._proto.name" with or without a port."""
    example = "dns:name:port such as dns:app.internal:8080, or a service such as dns:_http._tcp.app.internal"
    if text.startswith("_") and ":" not in text:
        host, port = text, 0
    else:
        host, port = _split(text, example)
    if _ip(host) is not None:
        raise ValueError(f"{host} is an address: remove dns:")
    if _NUMERIC.fullmatch(host) or not _LABELS.fullmatch(host):
        raise ValueError(f"{host} is not a host name: expected {example}")
    return Address("dns", host.lower(), port)


HOST: Final = "{host}"
"""As the name of a server in TLS: the host that each client asks for."""


def tls_name(text: str) -> str:
    """Parse a host name, an IP address or HOST. Raises ValueError."""
    ip = _ip(text)
    if text != HOST and ip is None and (_NUMERIC.fullmatch(text) or not _LABELS.fullmatch(text)):
        raise ValueError(f"{text} is neither a host name nor an IP address; {HOST} stands for that of each request")
    return ip or text.lower().removesuffix(".")


def name_server(text: str) -> Listen:
    """Parse "ip", "ip:port" or "[ipv6]:port"; the port is 53 if there is none. Raises ValueError."""
    ip = _ip(text)
    if ip is not None:
        return Listen(ip, 53)
    host, port = _split(text, "an address such as 10.0.0.2 or 127.0.0.1:5353") if ":" in text else (text, 53)
    ip = _ip(host)
    if ip is None:
        raise ValueError(f"{host} is not an IP address: a name server must be given by its address")
    return Listen(ip, port)


def proxy(text: str) -> IPv4Network | IPv6Network | str:
    """Parse an address range as `network` does, or UNIX. Raises ValueError."""
    return UNIX if text == UNIX else network(text)


def network(text: str) -> IPv4Network | IPv6Network:
    """Parse an address range in CIDR form, or one address. Raises ValueError."""
    try:
        meant = ip_network(text, strict=False)
        exact = ip_address(text.partition("/")[0]) == meant.network_address
    except ValueError:
        raise ValueError(f"{text} is not an address range such as 10.0.0.0/8 or 2001:db8::/32") from None
    if not exact:
        raise ValueError(f"{text} has bits set after its prefix (did you mean {meant}?)")
    return meant


_TARGET: Final = re.compile(
    r"(?P<transport>udp|tcp)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_SYSLOG_PORTS: Final = {"udp": 514, "tcp": 601}
"""RFC 5426 section 3.3; syslog-conn of IANA's registry."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where log lines are sent: an IP address without brackets and a port."""

    transport: Literal["udp", "tcp"]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}://{Listen(self.host, self.port)}"


def target(text: str) -> Target:
    """Parse "udp://ADDRESS:PORT" or "tcp://ADDRESS:PORT". Raises ValueError."""
    match = _TARGET.fullmatch(text)
    if match is None:
        raise ValueError("expected udp://ADDRESS:PORT or tcp://ADDRESS:PORT")
    transport: Literal["udp", "tcp"] = "udp" if match["transport"] == "udp" else "tcp"
    host = "127.0.0.1" if match["host"].lower() == "localhost" else _ip(match["host"].strip("[]"))
    if host is None:
        raise ValueError(f"{match['host']} is not an IP address: workers look up no names")
    port = int(match["port"] or _SYSLOG_PORTS[transport])
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"a port is between 1 and {_MAX_PORT}")
    return Target(transport, host, port)

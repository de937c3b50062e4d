"""A request in the notation of the command line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from gateway.config.expectation import client_address

_LINE: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,32})\s+(https?)://([^/?#\s]+)([^\s#]*)")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: method, scheme, host with optional port, target (path and query), header lines, client."""

    method: str
    scheme: str
    host: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    client: str = "192.0.2.1"

    @classmethod
    def parse(cls, line: str, headers: Iterable[tuple[str, str]] = (), client: str = "192.0.2.1") -> Self:
        """From METHOD URL, such as GET https://www.example.com/path?query. Raises ValueError."""
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError("expected a request such as GET https://www.example.com/path")
        method, scheme, host, target = match.groups()
        client_address(client)
        urlsplit(f"//{host}").port  # noqa: B018 - raises ValueError for a port that is none
        if not target.startswith("/"):
            target = "/" + target
        return cls(method, scheme, host, target, tuple(headers), client)

    @property
    def port(self) -> int:
        """The port of the request."""
        return urlsplit(f"//{self.host}").port or _PORTS[self.scheme]

    @property
    def head(self) -> bytes:
        """Its bytes on the wire."""
        fields = [f"{self.method} {self.target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            fields.append(f"Host: {self.host}")
        fields += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(fields) + "\r\n\r\n").encode("utf-8")

    def __str__(self) -> str:
        return f"{self.method} {self.scheme}://{self.host}{self.target}"

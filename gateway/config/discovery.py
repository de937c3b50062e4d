"""Servers from a name service: resolves dns: entries of the site file to servers."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StringConstraints, TypeAdapter

from gateway.config.address import Address, Listen, server_address
from gateway.config.loader import Endpoint, Loaded
from gateway.config.model import Backend, Server, Site

LONGEST_NAME: Final = 64
"""Characters of a server's name."""
_DIGEST: Final = 8
MAX_MEMBERS: Final = 65536
"""Limit on members per response, and on responses, from another process: far more than there are server rows."""


Kind: TypeAlias = Literal["A", "AAAA", "SRV"]


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """A query to the name service: the records of one kind for an entry's name."""

    address: Address
    kind: Kind


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """The content of one record: a server at `ip` and `port`, with the name `host`.

    `weight` is its share among the records of the same answer, None if the entry's weight applies; `backup`: used
    only when others are unavailable.
    """

    ip: str
    port: int
    host: str
    weight: int | None = None
    backup: bool = False


Found: TypeAlias = Mapping[Question, tuple[Member, ...]]
"""The last valid answer to each question."""


def _plain_ip(text: str) -> str:
    if ip_address(text).compressed != text or "%" in text:
        raise ValueError("not an IP address in its one form")
    return text


_Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern="^[!-~]+$")]
_ROWS: Final = TypeAdapter[list[tuple[str, Kind, list[tuple[str, int, str, int | None, bool]]]]](
    Annotated[
        list[
            tuple[
                _Text,
                Kind,
                Annotated[
                    list[
                        tuple[
                            Annotated[_Text, AfterValidator(_plain_ip)],
                            Annotated[StrictInt, Field(ge=0, le=65535)],
                            _Text,
                            Annotated[StrictInt, Field(ge=1, le=256)] | None,
                            StrictBool,
                        ]
                    ],
                    Field(max_length=MAX_MEMBERS),
                ],
            ]
        ],
        Field(max_length=MAX_MEMBERS),
    ]
)


def rows(answers: Found) -> list[list[Any]]:
    """The answers in a JSON form that `found` reads."""
    return [
        [
            str(question.address),
            question.kind,
            [[member.ip, member.port, member.host, member.weight, member.backup] for member in members],
        ]
        for question, members in answers.items()
    ]


def found(rows: object) -> Found:
    """The answers in `rows`, sent by another process. Raises ValueError for anything that `rows` cannot return."""
    return {
        Question(server_address(address), kind): tuple(Member(*fields) for fields in members)
        for address, kind, members in _ROWS.validate_python(rows)
    }


def questions(site: Site) -> frozenset[Question]:
    """All questions for the site file as written."""
    servers = (server for backend in site.backends.values() for server in backend.servers)
    return frozenset(question for server in servers for question in _questions(server.address))


def expand(loaded: Loaded, found: Found) -> Loaded:
    """The same site with dns: entries replaced by the servers `found`."""
    resolved = dict(loaded.resolved)
    backends = {}
    for name, backend in loaded.site.backends.items():
        backends[name] = backend
        if any(server.address.kind == "dns" for server in backend.servers):
            backends[name] = _expand(backend, found, resolved)
    return replace(loaded, site=loaded.site.model_copy(update={"backends": backends}), resolved=resolved)


def _questions(address: Address) -> Iterator[Question]:
    if address.kind == "dns":
        kinds: tuple[Kind, ...] = ("SRV",) if address.host.startswith("_") else ("A", "AAAA")
        yield from (Question(address, kind) for kind in kinds)


def _expand(backend: Backend, found: Found, resolved: dict[tuple[str, str], Endpoint]) -> Backend:
    # A name in the file has precedence over the same name of a discovered server.
    servers = {server.name: server for server in backend.servers if server.address.kind != "dns"}
    for entry in backend.servers:
        members = {member for question in _questions(entry.address) for member in found.get(question, ())}
        for member in sorted(members):
            server = _server(entry, member)
            if server.name not in servers:
                servers[server.name] = server
                resolved[backend.name, server.name] = member.ip, member.port
    return backend.model_copy(update={"servers": tuple(servers.values())})


def _server(entry: Server, member: Member) -> Server:
    address = Address("tcp", member.host, member.port)
    # Records of a service may name several ports of a machine; records of an address have one port.
    where = str(Listen(member.ip, member.port)) if entry.address.host.startswith("_") else member.ip
    return entry.model_copy(
        update={
            "address": address,
            "name": _name(entry.name, where.replace("[", "").replace("]", "")),
            "weight": entry.weight if member.weight is None else member.weight,
            "backup": entry.backup or member.backup,
        }
    )


def _name(entry: str, where: str) -> str:
    """`entry`-`where`, always the same for the same input; the end of a long `entry` is replaced by a digest."""
    room = LONGEST_NAME - len(where) - 1
    if len(entry) > room:
        digest = hashlib.sha256(entry.encode()).hexdigest()[:_DIGEST]
        entry = f"{entry[: room - _DIGEST - 1]}-{digest}"
    return f"{entry}-{where}"

"""TLS of the listener for operators, and who is at the other end of a connection."""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import certificate
from gateway.system import private_socket

NAMED: Final = {"DNS", "email", "URI"}
"""Kinds of alternative names that an operator may be known by."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a client by its connection."""

    encrypted: bool = False
    names: frozenset[str] = frozenset()
    """Those of its certificate, which one of `cas` has signed."""
    cas: bytes = field(default=b"", repr=False)
    user: int | None = None
    """Account at the other end of a Unix socket."""


class Context(ssl.SSLContext):
    """For the server's end. `cas`: PEM, of those whose clients' certificates count."""

    cas: bytes = b""


def context(cert: bytes, key: bytes, cas: bytes) -> Context:
    """Make one that shows a certificate, all PEM; without `cas` clients are asked for none. Raises Fault.

    There are no session tickets: a client that comes back is verified again.
    """
    made = Context(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.num_tickets = 0
    made.set_alpn_protocols(["http/1.1"])
    certificate.load(made, cert, key)
    if cas:
        certificate.load_cas(made, cas)
        made.verify_mode = ssl.CERT_OPTIONAL
        made.cas = cas
    return made


def peer_of(transport: asyncio.BaseTransport | None) -> Peer:
    """Who is at the other end of a connection."""
    if transport is None:
        return Peer()
    made = transport.get_extra_info("sslcontext")
    if not isinstance(made, Context):
        sock = transport.get_extra_info("socket")
        return Peer(user=private_socket.user_of(sock) if sock.family == socket.AF_UNIX else None)
    shown = transport.get_extra_info("peercert")
    return Peer(encrypted=True, names=frozenset(_names(shown or {})), cas=made.cas)


def _names(shown: Mapping[str, Any]) -> Iterator[str]:
    """The names in a certificate as SSLSocket.getpeercert returns it."""
    for part in shown.get("subject", ()):
        yield from (value for kind, value in part if kind == "commonName")
    yield from (value for kind, value in shown.get("subjectAltName", ()) if kind in NAMED)

"""Who may do what over HTTP, and which requests a web page of others may have made. Pure."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from gateway.admin.tls import Peer
from gateway.config.admin import AccessRole, Admin

ROLES: Final[tuple[AccessRole, ...]] = ("read", "operate", "configure")
"""Each includes those before it."""
JSON: Final = "application/json"

UNKNOWN: Final = Peer()

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: `name` is an operator's, "token" for that of token_file, and "anyone" without a token."""

    name: str
    role: AccessRole | None

    def may(self, role: AccessRole | None) -> bool:
        """Whether the caller has a role; None: that of everyone."""
        return role is None or (self.role is not None and ROLES.index(self.role) >= ROLES.index(role))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what: `open_to` is the role of requests without a token, `tokens` has callers with their tokens.

    `certificates` has callers with a name in their certificates, which one of `cas` (PEM) has signed.
    """

    open_to: AccessRole | None = None
    tokens: tuple[tuple[Caller, bytes], ...] = ()
    certificates: tuple[tuple[Caller, str], ...] = ()
    cas: bytes = b""
    encrypted: bool = False
    """Whether the listener speaks TLS."""
    users: Mapping[int, str] = field(default_factory=dict)
    """Accounts of this machine that may do everything, with their names: at a Unix socket, instead of `open_to`."""

    @classmethod
    def of(cls, admin: Admin, files: Mapping[Path, bytes]) -> Self:
        """As the section of the site file says; `files` has the contents of its token files."""
        operators = [(Caller(each.name, each.role), each) for each in admin.operators]
        named = [(caller, each.token_file) for caller, each in operators]
        if admin.token_file is not None:
            named.append((Caller("token", "read"), admin.token_file))
        tls = admin.tls
        return cls(
            admin.open_to,
            tuple((caller, files[path].strip()) for caller, path in named if path is not None),
            tuple((caller, each.client_cert) for caller, each in operators if each.client_cert is not None),
            files[tls.client_ca] if tls is not None and tls.client_ca is not None else b"",
            tls is not None,
        )

    def here(self, users: Mapping[int, str]) -> Self:
        """The same at a Unix socket, where the kernel says who asks; a token that is given counts there, too."""
        return replace(self, open_to=None, certificates=(), cas=b"", encrypted=False, users=users)

    def caller(self, authorization: str | None, peer: Peer = UNKNOWN) -> Caller | None:
        """The sender of this Authorization field (RFC 6750 section 2.1); None: its token is not known.

        Every token is compared, in constant time each. Without the field it is who `peer` is.
        """
        if authorization is None:
            if peer.user is not None and peer.user in self.users:
                return Caller(self.users[peer.user], "configure")
            known = [caller for caller, name in self.certificates if name in peer.names and peer.cas == self.cas]
            return known[0] if known else Caller("anyone", self.open_to)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":  # in any case (RFC 9110 section 11.1)
            return None
        sent = given.strip().encode(errors="replace")
        known = [caller for caller, token in self.tokens if hmac.compare_digest(sent, token)]
        return known[0] if known else None

    def knows(self, caller: Caller, token: str, peer: Peer = UNKNOWN) -> bool:
        """Whether a caller still may what it might when it asked with this token; "": it had none."""
        return peer.encrypted == self.encrypted and self.caller(f"Bearer {token}" if token else None, peer) == caller


def is_local(host: str | None) -> bool:
    """Whether a Host field (HTTP/1.0 may omit it) names a loopback address or localhost."""
    match = _HOST.fullmatch(host if host is not None else "localhost")
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def from_elsewhere(fields: Mapping[str, str]) -> bool:
    """Whether a web page of another origin made the browser send a request with these fields.

    A browser says so in Origin (RFC 6454 section 7) and Sec-Fetch-Site (W3C, Fetch Metadata). Other programs send
    neither.
    """
    if fields.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return True
    origin = fields.get("Origin")
    return origin is not None and origin.partition("://")[2] != fields.get("Host")


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is that of JSON, which no form of a web page can send."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == JSON

"""The site file as frozen objects. Fields are named as in the file; durations are in seconds, sizes in bytes.

Lists are tuples; shorthand forms are expanded; defaults and names are filled in.
"""

import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config import http2_library, template
from gateway.config.access_log import AccessLog, AccessLogs, logs, one_file
from gateway.config.acme import Acme
from gateway.config.address import HOST, UNIX, Address, Listen, is_ip
from gateway.config.admin import Admin
from gateway.config.affinity import Affinity
from gateway.config.basic_auth import BasicAuth
from gateway.config.cluster import Cluster
from gateway.config.dns import Dns
from gateway.config.expectation import SiteTest
from gateway.config.fields import (
    NAME,
    AddressField,
    ClassName,
    Duration,
    EntranceField,
    File,
    FileMode,
    Flag,
    FrontendName,
    Given,
    HeaderName,
    HeaderValue,
    ListenField,
    Method,
    Model,
    Name,
    NameServer,
    OneOrMany,
    PathMatch,
    PositiveDuration,
    Proxy,
    Rate,
    Share,
    Size,
    Some,
    StatusField,
    StatusRange,
    Text,
    TlsName,
    ValueMatch,
    Whole,
    text,
    within,
)
from gateway.config.maps import MapFile, MapName
from gateway.config.match import Match
from gateway.config.policies import POLICIES
from gateway.config.problem import Fault, Loc, kind, suggest
from gateway.config.python import Function, function
from gateway.config.qos import Qos
from gateway.config.rate_limit import RateLimited, RequestRate
from gateway.config.response_rewrite import CookieRewrite
from gateway.config.route_settings import NO_AFFINITY, RetryCause, RouteAffinity, RouteRetries, RouteTimeouts, statuses
from gateway.config.sites import Sites
from gateway.config.split import Split
from gateway.config.tracing import Tracing

__all__ = [
    "AccessLog",
    "Address",
    "Affinity",
    "Agent",
    "Apache",
    "Backend",
    "BasicAuth",
    "Certificate",
    "Check",
    "Cluster",
    "Expect",
    "Frontend",
    "Limits",
    "Listen",
    "LoadReports",
    "Match",
    "Outlier",
    "PathMatch",
    "Python",
    "Queue",
    "Redirect",
    "Resolver",
    "Respond",
    "Retries",
    "Route",
    "Server",
    "Site",
    "StatusRange",
    "Timeouts",
    "Tls",
    "TlsToServers",
    "ValueMatch",
]

_BALANCE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "enum": list(POLICIES)},
        {
            "type": "object",
            "properties": {"hash": {"type": "string", "pattern": "^header:", "examples": ["header:X-Tenant"]}},
            "required": ["hash"],
            "additionalProperties": False,
        },
    ]
}

_HEADER_HASH: Final = re.compile(r"header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_PORT: Final = re.compile(":[0-9]{1,5}")

_TARGET: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/|\{")
_IN_AUTHORITY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?(//[^/?#]*)?")
_FRAMING: Final = frozenset({"connection", "content-length", "content-type", "transfer-encoding"})
_OURS: Final = _FRAMING - {"content-type"} | {
    *("keep-alive", "te", "trailer", "upgrade", "via", "expect", "http2-settings"),
    *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id", "set-cookie2"),
}
"""Fields that only the gateway may write."""
_BODILESS: Final = frozenset({204, 304})


def _every_address(value: object) -> object:
    """Write ":PORT" as an address of each family."""
    items = value if isinstance(value, list | tuple) else [value]
    if not any(isinstance(item, str) and _PORT.fullmatch(item) for item in items):
        return value
    found: list[object] = []
    for item in items:
        if isinstance(item, str) and _PORT.fullmatch(item):
            found += [f"{IPv4Address(0)}{item}", f"[{IPv6Address(0)}]{item}"]
        else:
            found.append(item)
    return found


def _function(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Function):
        return value
    return function(text(value, "module:function"), (info.context or {}).get("directory") or Path())


def _service(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/-]{0,256}", value):
        raise ValueError("not the name of a service, such as shop.v1.Orders")
    return value


def _host_header(value: str) -> str:
    if not re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?", value):
        raise ValueError("expected a host such as app.example.com")
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch("/[!-~]*", value):
        raise ValueError("expected a path that begins with /")
    return value


def _url(value: str) -> str:
    for index, char in enumerate(value):
        if not "!" <= char <= "~":
            what = "a line break" if char in "\r\n" else f"the character {char!r}"
            raise Fault(f"a URL cannot contain {what}", offset=index)
    return value


def _redirect_target(value: str) -> str:
    if status := re.fullmatch(r"(3[0-9]{2}) (\S+)|(\S+) (3[0-9]{2})", value):
        to, number = status[2] or status[3], status[1] or status[4]
        raise ValueError(f'the status has a key of its own: write {{to: "{to}", status: {number}}}')
    _url(value)
    if not _TARGET.match(value):
        hint = f" (did you mean https://{value}?)" if "." in value.partition("/")[0] else ""
        if value in ("http", "https"):
            hint = f' (did you mean "{value}://{{host}}{{uri}}"?)'
        raise ValueError(f"expected a URL or a path beginning with /{hint}")
    return value


def _rewrite_target(value: str) -> str:
    if " " in value or value.startswith(("^", "~")):
        raise ValueError(
            'this is only the new path: write the pattern in match: {path: "~ …"}, with names for its groups'
        )
    _url(value)
    if not value.startswith(("/", "{path}", "{uri}", "{map:")) or value.startswith("//"):
        raise ValueError('expected a path beginning with /, such as "/new/{path_rest}"')
    if "#" in value:
        raise Fault("a fragment is never sent to a server", offset=value.index("#"))
    return value


def _no_choice_of_host(value: str, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Refuse a redirect target whose host clients could choose."""
    authority = ""
    for literal, field in pairs:
        authority += literal
        if field is not None and field.startswith("map:"):  # the operator's text, which may have a host
            authority += "{}" if authority else "//{}"
            continue
        if field not in (None, "host", "client", "scheme", "uri", "path") and _IN_AUTHORITY.fullmatch(authority):
            raise Fault(
                f"clients could choose the host: write / before {{{field}}}", offset=value.index(f"{{{field}}}")
            )
        authority += "{}" if field in ("host", "client", "scheme") else "/"


def _template(value: str, groups: Collection[str], *at: str | int) -> tuple[tuple[str, str | None], ...]:
    """Parse a route's template. Raises Fault."""
    try:
        return template.parts(value, (*template.REDIRECT_FIELDS, *groups), named=template.FAMILIES)
    except Fault as fault:
        raise Fault(str(fault), *at, offset=fault.offset) from None


def _balance(value: object) -> str:
    if (isinstance(value, str) and value in POLICIES) or _HEADER_HASH.fullmatch(str(value)):
        return str(value)
    if isinstance(value, dict) and "hash" in value:
        if len(value) == 1 and _HEADER_HASH.fullmatch(str(value["hash"])):
            return str(value["hash"])
        raise Fault('expected hash: "header:NAME", such as {hash: "header:X-Tenant"}', "hash")
    hint = _nearest_policy(value) if isinstance(value, str) else ""
    raise ValueError(f'expected one of {", ".join(POLICIES)} or {{hash: "header:NAME"}}{hint}')


_POLICIES_OF_OTHERS: Final = {
    **dict.fromkeys(("roundrobin", "static-rr", "rr", "wrr", "round_robin", "byrequests"), "weighted-round-robin"),
    **dict.fromkeys(("leastconn", "least_conn", "wlc", "lc", "bybusyness"), "weighted-least-connections"),
    **dict.fromkeys(("source", "ip_hash", "ip-hash", "iphash", "sh", "client_ip"), "source-hash"),
    **dict.fromkeys(("uri", "uri_hash", "url_param"), "uri-hash"),
    **dict.fromkeys(("random", "random two", "random_choose", "p2c", "power_of_two_choices"), "two-choices"),
    **dict.fromkeys(("least_time", "ewma", "peak_ewma", "fastest", "auto"), "measured"),
}
"""Policies of HAProxy, nginx, LVS, Apache, Caddy, Traefik and Envoy."""


def _nearest_policy(value: str) -> str:
    """What a policy of another proxy is called here."""
    word = value.lower()
    if header := re.fullmatch(r"(?:hdr|req[.]hdr|header|hash \$http_)[( ]?([\w-]+)\)?", word):
        return f' (did you mean {{hash: "header:{header[1].replace("_", "-")}"}}?)'
    ours = _POLICIES_OF_OTHERS.get(word.partition("(")[0])
    return f" (did you mean {ours}?)" if ours else suggest(value, POLICIES)


def _tls_to_servers(value: object) -> object:
    if value is False:
        return None
    if value is True:
        return {}
    if isinstance(value, dict | TlsToServers):
        return value
    raise ValueError(f"expected true, false or a mapping, not {kind(value)}")


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)


def _workers(value: object) -> int:
    if value == "auto":
        return _cores()
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"expected auto or a number from 1 to {MAX_WORKERS}")
    return value


MAX_WORKERS: Final = 64


class LoadReports(Model):
    """The receiver of load agents' signed reports."""

    listen: ListenField = Field(description="UDP address to receive reports on.")
    secret_file: Annotated[File | None, Given()] = Field(
        None,
        description="Secret from which each server's key is derived, by the server's name: see `gateway key derive`. "
        "Only its owner may read the file.",
    )
    keys: dict[Name, File] = Field(
        {}, description="Key files of servers by their names; only their owner may read them."
    )
    key_file: Annotated[File | None, Given()] = Field(
        None,
        description="Key that all agents share: each of them can report for every server that is not in keys. "
        "Only its owner may read the file.",
    )

    @model_validator(mode="after")
    def _some_key(self) -> "LoadReports":
        if self.secret_file is None and self.key_file is None and not self.keys:
            raise Fault("reports are signed: set secret_file, from which each server's key is derived, or keys")
        if self.secret_file is not None and self.key_file is not None:
            message = "with secret_file every server has its own key: list servers with other keys in keys"
            raise Fault(message, "key_file", key=True)
        return self


class Resolver(Model):
    """The name service for dns: entries."""

    nameservers: Annotated[tuple[NameServer, ...], Some()] = Field(
        (), description="Name servers, tried in order. Default: those of /etc/resolv.conf."
    )
    timeout: PositiveDuration = Field("2s", validate_default=True, description="Time for a response, from any of them.")


class Limits(Model):
    """Limits on requests and connections of clients; exceeding one gives its own status or closes the connection."""

    header_bytes: Annotated[Size, within(256, 60 * 1024)] = Field(
        "32KiB", validate_default=True, description="Longest request head; longer ones get 431. At most 60KiB."
    )
    header_count: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        100, description="Largest number of header lines; more get 431. At most 1000."
    )
    url_bytes: Annotated[Size, within(64, 60 * 1024)] = Field(
        default_factory=lambda data: min(16 * 1024, data["header_bytes"]),
        description="Longest request target; longer ones get 414. Default: 16KiB, or header_bytes if that is less.",
    )
    body_bytes: Size = Field("1GiB", validate_default=True, description="Largest request body; larger ones get 413.")
    header_timeout: PositiveDuration = Field(
        "10s",
        validate_default=True,
        description="Time from the first byte of a request head to its last; slower ones get 408. A new connection on "
        "which nothing comes for so long is closed.",
    )
    idle_timeout: PositiveDuration = Field(
        "60s",
        validate_default=True,
        description="Time for which a connection is kept after a request, for the next one; longest pause of a body, "
        "and of a client that reads its answer.",
    )

    body_rate: Rate = Field(
        "500/s",
        validate_default=True,
        description="Slowest acceptable request body in bytes per second, after 10s; slower: 408. 0/s: no limit.",
    )
    connections: Annotated[Whole, Field(ge=1)] = Field(
        10_000, description="Limit on client connections; further ones are closed at once."
    )
    connections_per_source: Annotated[Whole, Field(ge=1)] = Field(
        200, description="The same from one address, unless it is one of trusted_proxies."
    )
    handshakes_per_source: Annotated[RequestRate | None, Given()] = Field(
        None,
        description="Limit on TLS handshakes from one address (IPv6: /64), unless it is one of trusted_proxies; in all "
        "workers, and in a cluster with listen on all gateways. Further connections are closed at once. Default: none.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Limits":
        if self.url_bytes > self.header_bytes:
            raise Fault("the URL is part of the head: at most header_bytes", "url_bytes")
        return self


TlsVersion: TypeAlias = Annotated[
    Literal["1.2", "1.3"],
    # Without quotes YAML reads a number.
    BeforeValidator(lambda value: str(value) if isinstance(value, float) else value),
    WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]}),
]

OldTlsVersion: TypeAlias = Annotated[
    Literal["1.0", "1.1", "1.2", "1.3"],
    BeforeValidator(lambda value: str(value) if isinstance(value, float) else value),
    WithJsonSchema({"enum": ["1.0", "1.1", "1.2", "1.3", 1.0, 1.1, 1.2, 1.3]}),
]

_OLDEST: Final[dict[str, Literal["1.0", "1.1", "1.2", "1.3"]]] = {"modern": "1.3", "intermediate": "1.2", "old": "1.0"}
"""TLS version by policy."""


class Certificate(Model):
    """A certificate chain and its private key, both PEM."""

    cert: File = Field(description="Certificate followed by its intermediates.")
    key: File = Field(description="Private key, not encrypted; only its owner may read the file.")


class OwnCertificate(Model):
    """For clients: a certificate with its key, or a directory of such."""

    cert: Annotated[File | None, Given()] = Field(None, description="Certificate followed by its intermediates, PEM.")
    key: Annotated[File | None, Given()] = Field(
        None, description="Private key, PEM, not encrypted; only its owner may read the file."
    )
    ocsp: Annotated[File | None, Given()] = Field(
        None, description="OCSP response for the certificate (DER), sent to clients that ask for it until it expires."
    )
    directory: Annotated[File | None, Given()] = Field(
        None,
        description="Every certificate of this directory: NAME.pem or NAME.crt, with its key in the same file or in "
        "NAME.key, and an OCSP response in NAME.ocsp; subdirectories with fullchain.pem and privkey.pem.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "OwnCertificate":
        for name in ("cert", "key", "ocsp"):
            if self.directory is not None and name in self.model_fields_set:
                raise Fault(f"a directory has files of its own: remove {name}", name, key=True)
            if self.directory is None and name != "ocsp" and name not in self.model_fields_set:
                raise Fault(f"{name} is missing")
        return self


YEAR: Final = 365 * 86400.0


class Hsts(Model):
    """What clients are told of https (RFC 6797)."""

    shorthand: ClassVar = {"type": "string", "description": "max_age alone."}

    max_age: Duration = Field(description="How long clients use only https for the host; 0s: no longer.")
    include_subdomains: Flag = Field(default=False, description="For all names below the host, too.")
    preload: Flag = Field(
        default=False, description="Agree that browsers come with the host in their list (hstspreload.org)."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"max_age": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _listed(self) -> "Hsts":
        if self.preload and not (self.include_subdomains and self.max_age >= YEAR):
            raise Fault("the list takes only hosts with include_subdomains and a max_age of 365d at least", "preload")
        return self

    @property
    def value(self) -> str:
        """The value of the header."""
        parts = [f"max-age={int(self.max_age)}"]
        parts += ["includeSubDomains"] if self.include_subdomains else []
        return "; ".join(parts + (["preload"] if self.preload else []))


class Tls(Model):
    """TLS towards clients."""

    certificates: Annotated[tuple[OwnCertificate, ...], Some()] = Field(
        (),
        description="Selected by the client's server name (SNI); the first is used for clients without one. "
        "May be left out with acme.",
    )
    acme: Annotated[Acme | None, Given()] = Field(
        None, description="Certificates that the gateway gets from an authority and renews (RFC 8555). Default: none."
    )
    strict_sni: Flag = Field(
        default=False,
        description="Refuse clients that name no server of the certificates; false: they get the first certificate.",
    )
    policy: Literal["modern", "intermediate", "old"] = Field(
        "intermediate",
        description="Versions and ciphers, as Mozilla's guidelines define them: modern is TLS 1.3 only, old also takes "
        "TLS 1.0 and weak ciphers.",
    )
    min_version: OldTlsVersion = Field(
        default_factory=lambda data: _OLDEST[data["policy"]],
        description="Oldest TLS version accepted. Default: that of the policy.",
    )
    client_ca: Annotated[File | None, Given()] = Field(
        None,
        description="Ask clients for a certificate of these CAs (PEM); servers get the result in X-Client-Cert-Verify "
        "and similar. Default: clients are not asked.",
    )
    require_client_cert: Flag = Field(
        default=False, description="Refuse clients without a valid certificate (with client_ca only)."
    )
    hsts: Annotated[Hsts | None, Given()] = Field(
        None,
        description="Strict-Transport-Security (RFC 6797) in all responses of this frontend: clients use only https. "
        "Replaces that of the servers. Default: servers decide.",
    )
    ticket_key_file: Annotated[File | None, Given()] = Field(
        None,
        description="Secret for the encryption of session tickets, the same on all gateways; only its owner may "
        "read the file. Default: made from the key of cluster, or else from a key that the gateway keeps in state.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Tls":
        if self.min_version < _OLDEST[self.policy]:
            message = (
                f"policy {self.policy} begins at TLS {_OLDEST[self.policy]}: write `policy: old` for older versions"
            )
            raise Fault(message, "min_version")
        if not self.certificates and self.acme is None:
            raise Fault("certificates is missing: name a certificate with its key, or let acme get some")
        if self.acme is not None:
            self._can_be_validated(self.acme)
        if self.require_client_cert and self.client_ca is None:
            raise Fault("client_ca is missing: whose certificates are valid", "require_client_cert", key=True)
        return self

    def _can_be_validated(self, wanted: Acme) -> None:
        """What the authority, or the clients of an IP address, could not do."""
        if wanted.challenge == "tls-alpn-01" and self.require_client_cert:
            message = "tls-alpn-01 needs handshakes without a client's certificate: write http-01, or not this"
            raise Fault(message, "acme", "challenge")
        for i, names in enumerate(wanted.names):
            for j, name in enumerate(names):
                if self.strict_sni and is_ip(name):
                    message = f"clients of {name} name no server, which strict_sni refuses"
                    raise Fault(message, "acme", *wanted.place_of(i, j))


class Frontend(Model):
    """A frontend: one entrance for clients."""

    listen: Annotated[tuple[EntranceField, ...], OneOrMany(), BeforeValidator(_every_address)] = Field(
        description='One or more addresses to listen on; ":8080" is that port of every address, IPv4 and IPv6; '
        "unix:/path is a Unix socket."
    )
    name: FrontendName = Field(
        default_factory=lambda data: str(data["listen"][0]),
        description="Name in logs and status. Default: the first address.",
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        (),
        description="From these addresses, X-Forwarded-For and Forwarded are trusted and extended; unix denotes "
        "the clients of Unix sockets.",
    )
    client_from: Annotated[HeaderName | None, Given()] = Field(
        None,
        description="Header in which trusted_proxies report the client, such as CF-Connecting-IP or X-Real-IP. "
        "Default: X-Forwarded-For, or else Forwarded.",
    )
    proxy_protocol: Flag = Field(
        default=False,
        description="trusted_proxies begin each connection with a PROXY header (version 1 or 2).",
    )
    merge_slashes: Flag = Field(
        default=True,
        description="Collapse runs of slashes in a path, for rules and for servers; false: //admin/ is not /admin/.",
    )
    encoded_slashes: Flag = Field(
        default=False,
        description="Pass on paths with %2F or %5C unchanged; false: they get 400, because some servers decode a "
        "slash there and rules do not.",
    )
    path_parameters: Flag = Field(
        default=True,
        description="Paths with ;name=value are passed on; false: they are 400. Say so if the servers leave such "
        "parameters out (Java's do), because rules do not.",
    )
    socket_mode: FileMode = Field(
        "0660", validate_default=True, description="Permissions of its Unix sockets; connecting needs write."
    )
    limits: Limits = Field(default_factory=Limits, description="Limits on requests and connections of clients.")
    http2: Flag = Field(
        default=False,
        description="Speak HTTP/2 with clients that can: over TLS as they agree on it (ALPN), else with those that "
        "begin with it (prior knowledge). Needs the library libnghttp2.so.14 (Debian package libnghttp2-14).",
    )
    tls: Annotated[Tls | None, Given()] = Field(None, description="Speak TLS on this frontend.")

    @model_validator(mode="after")
    def _has_socket(self) -> "Frontend":
        if "socket_mode" in self.model_fields_set and not any(listen.path for listen in self.listen):
            raise Fault(
                "no address of this frontend is a Unix socket, such as unix:/run/gateway/http.sock", "socket_mode"
            )
        return self

    @model_validator(mode="after")
    def _speaks(self) -> "Frontend":
        if self.http2 and not http2_library.is_there():
            raise Fault(
                f"{http2_library.NAME} is not installed: apt install {http2_library.PACKAGE}, or leave http2 out",
                "http2",
            )
        return self

    @model_validator(mode="after")
    def _trusts(self) -> "Frontend":
        if self.client_from is not None and not self.trusted_proxies:
            raise Fault("clients could claim any address: name the proxies in trusted_proxies", "client_from", key=True)
        if self.proxy_protocol and not self.trusted_proxies:
            raise Fault("clients could claim any address: name the proxies in trusted_proxies", "proxy_protocol")
        if self.proxy_protocol and UNIX not in self.trusted_proxies and any(listen.path for listen in self.listen):
            raise Fault("no client could use its Unix socket: add unix to trusted_proxies", "proxy_protocol")
        return self


class Server(Model):
    """One server of a backend."""

    shorthand: ClassVar = {
        "type": "string",
        "description": "Address only; it becomes the name as well.",
        "examples": ["10.0.0.11:8080"],
    }

    address: AddressField = Field(
        description="ip:port, [ipv6]:port, hostname:port, each after https:// where TLS is spoken, unix:/path, or "
        "dns:name:port: every address of the name is a server, followed as it changes. A name such as "
        "dns:_http._tcp.app.internal stands for its SRV records."
    )
    name: Name = Field(
        default_factory=lambda data: data["address"].token,
        description="Name in cookies, logs, status and load reports. Default: the address. "
        "Servers found by dns: have it before their own addresses.",
    )
    weight: Annotated[Whole, Field(ge=1, le=256)] = Field(1, description="Share of requests relative to the others.")
    max_connections: Annotated[Annotated[Whole, Field(ge=1)] | None, Given()] = Field(
        None, description="Limit on requests in flight. Default: no limit."
    )
    backup: Flag = Field(default=False, description="Used only while no other server is available.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_name(self) -> "Server":
        if not NAME.fullmatch(self.name):
            raise Fault("this address is too long for a name: give the server a name", "address")
        return self


class TlsOfChecks(Model):
    """How the certificate of a server is verified."""

    verify: Flag = Field(
        default=True,
        description="The certificate must be valid, signed by a trusted CA and for the server's name; false: "
        "attackers on the network path can read and change the traffic.",
    )
    ca: Annotated[File | None, Given()] = Field(
        None, description="Certificates of the CAs to trust, PEM. Default: those of this machine."
    )
    server_name: Annotated[TlsName | None, Given()] = Field(
        None,
        description="Name that the servers' certificates must be for, and that they are asked for (SNI); {host}: the "
        "host that the client asks for. Default: the host of the server's address.",
    )
    min_version: TlsVersion = Field("1.2", description="Oldest TLS version accepted.")

    @model_validator(mode="after")
    def _useful(self) -> "TlsOfChecks":
        if self.ca is not None and not self.verify:
            raise Fault("verify: false ignores the CA: remove one of them", "ca", key=True)
        return self


class TlsToServers(TlsOfChecks):
    """TLS towards the servers of a backend."""

    shorthand: ClassVar = {"type": "boolean", "description": "true: as all defaults say; false: no TLS."}

    certificate: Annotated[Certificate | None, Given()] = Field(
        None, description="Certificate and key to show to servers that ask for one."
    )

    def name_for(self, address: Address) -> str | None:
        """What a server at `address` is called; "": it has no name; None: as clients call it."""
        return None if self.server_name == HOST else self.server_name or address.host


class Expect(Model):
    """The expected response of a healthy server."""

    status: Annotated[tuple[StatusField, ...], OneOrMany()] = Field(
        (StatusRange(200, 299),),
        description="Accepted statuses and ranges of statuses.",
        json_schema_extra={"default": "200-299"},
    )
    body: Annotated[Text | None, Given()] = Field(
        None,
        description='Text the body contains, or "~" and a regular expression that matches somewhere in it.',
    )

    @field_validator("body")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("~"):
            try:
                re.compile(value[1:])
            except re.error as error:
                raise Fault(f"not a regular expression: {error.msg}", offset=1 + (error.pos or 0)) from None
        return value


def _tls_of_checks(value: object) -> object:
    if isinstance(value, bool | dict | TlsOfChecks):
        return value
    raise ValueError(f"expected true, false or a mapping, not {kind(value)}")


class Check(Model):
    """A health check: one of http, tcp, grpc."""

    http: Annotated[Text | None, Given()] = Field(None, description="Path to ask for.")
    method: Method = Field("GET", description="Method of the request, such as HEAD or OPTIONS (http only).")
    host: Annotated[Annotated[Text, AfterValidator(_host_header)] | None, Given()] = Field(
        None, description="Host to ask for (http and grpc only). Default: the server's address."
    )
    port: Annotated[Annotated[Whole, Field(ge=1, le=65535)] | None, Given()] = Field(
        None, description="Port of each server to check. Default: that of its address."
    )
    tls: Annotated[bool | TlsOfChecks | None, Given(), BeforeValidator(_tls_of_checks)] = Field(
        None,
        description="TLS of checks: false for none, true or a mapping as for a backend, whose certificate they show. "
        "Default: as requests have it.",
    )
    tcp: Flag = Field(default=False, description="Only open a connection.")
    grpc: Annotated[Annotated[Text, AfterValidator(_service)] | None, Given()] = Field(
        None,
        description="Service to ask gRPC's health check (grpc.health.v1) for, over HTTP/2; empty: all of it.",
    )
    interval: PositiveDuration = Field(
        "2s", validate_default=True, description="Time between checks; a quarter of it while the state is changing."
    )
    timeout: PositiveDuration = Field("1s", validate_default=True, description="Time for a whole check.")
    rise: Annotated[Whole, Field(ge=1, le=100)] = Field(2, description="Good checks in a row until a server is up.")
    fall: Annotated[Whole, Field(ge=1, le=100)] = Field(3, description="Bad checks in a row until it is down.")
    expect: Expect = Field(default_factory=Expect, description="Expected response (http only).")
    headers: dict[HeaderName, HeaderValue] = Field({}, description="Headers to send, such as Host (http only).")

    @field_validator("http")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"/[!-~]*", value):
            raise ValueError("expected a path such as /healthz")
        return value

    @property
    def kind(self) -> str:
        """The key that selects the kind of check: http, grpc or tcp."""
        return self._kinds()[0]

    def _kinds(self) -> list[str]:
        return [name for name in ("http", "grpc") if getattr(self, name) is not None] + ["tcp"] * self.tcp

    @model_validator(mode="after")
    def _one_kind(self) -> "Check":
        kinds = self._kinds()
        if not kinds:
            raise Fault('a check needs http: "/path", tcp: true or grpc: "service"')
        if len(kinds) > 1:
            raise Fault(f"{kinds[0]} and {kinds[1]} cannot be combined in a check", kinds[1], key=True)
        if self.http is None:
            for name in ("expect", "headers", "method"):
                if name in self.model_fields_set:
                    raise Fault(f"{name} needs http", name, key=True)
        if self.host is not None and self.tcp:
            raise Fault("host needs http or grpc", "host", key=True)
        return self

    @model_validator(mode="after")
    def _askable(self) -> "Check":
        if self.method == "CONNECT":
            raise Fault("a check cannot ask for a tunnel", "method")
        if self.method == "HEAD" and self.expect.body is not None:
            raise Fault("an answer to HEAD has no body", "expect", "body", key=True)
        if self.host is not None and any(name.lower() == "host" for name in self.headers):
            raise Fault("headers has a Host, too: remove one of them", "host", key=True)
        return self

    @property
    def asked_host(self) -> str | None:
        """The value of Host, if the check says one."""
        given = (value for name, value in self.headers.items() if name.lower() == "host")
        return self.host or next(given, None)


class Outlier(Model):
    """When a server is ejected because of its responses, and returns."""

    errors: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        5, description="Consecutive failures: no connection, no valid response, or a status from 500."
    )
    latency_factor: Annotated[float, Field(ge=1.1, le=1000, strict=True)] = Field(
        5.0, description="Limit on the response time: times the median of the backend's servers (at least three)."
    )
    eject_for: PositiveDuration = Field(
        "10s",
        validate_default=True,
        description="How long; longer each time that it comes back no better. Then single requests probe it.",
    )
    max_ejected: Share = Field("50%", validate_default=True, description="Largest share of ejected servers.")
    panic: Share = Field(
        "30%",
        validate_default=True,
        description="When fewer servers than this share would be left, those taken out serve as well.",
    )


class Agent(Model):
    """How this backend's servers report their load. Default: loadagent pushes reports."""

    stale_after: PositiveDuration = Field(
        "3s", validate_default=True, description="Silence after which a server's weight returns to neutral."
    )
    connect: Annotated[Annotated[Whole, Field(ge=1, le=65535)] | None, Given()] = Field(
        None,
        description="Port of each server where a text agent answers a connection with a line, as HAProxy's agent-check "
        "has it: 75%, up, down, ready, drain, maint, maxconn:30. Reports that are pushed do not count then.",
    )
    orca: Flag = Field(
        default=False,
        description="Servers say their load in a header of their answers, endpoint-load-metrics (ORCA), which clients "
        "do not get to see.",
    )
    interval: PositiveDuration = Field(
        "1s", validate_default=True, description="Time between two queries (connect only)."
    )
    send: Text = Field("", description="Text to send first to a text agent (connect only).")

    @model_validator(mode="after")
    def _asked(self) -> "Agent":
        for name in ("interval", "send"):
            if self.connect is None and name in self.model_fields_set:
                raise Fault(f"{name} needs connect", name, key=True)
        if self.connect is not None and self.orca:
            raise Fault("connect and orca cannot be combined", "orca", key=True)
        if self.connect is not None and self.interval >= self.stale_after:
            raise Fault("must be less than stale_after: weights would expire between two queries", "interval")
        return self


class Timeouts(Model):
    """Timeouts of servers."""

    connect: PositiveDuration = Field("2s", validate_default=True, description="Time to accept a connection; then 502.")
    response: PositiveDuration = Field(
        "30s",
        validate_default=True,
        description="To send the head of its answer, and between parts of it; then 504.",
    )
    idle: PositiveDuration = Field(
        "60s", validate_default=True, description="How long an unused connection to a server is kept."
    )
    tunnel: PositiveDuration = Field(
        "1h",
        validate_default=True,
        description="How long a WebSocket or another upgraded connection may be silent in both directions.",
    )


class Retries(Model):
    """When a request is retried, on another server if there is one."""

    attempts: Annotated[Whole, Field(ge=0, le=5)] = Field(2, description="Retries after the first try; 0: never.")
    on: Annotated[tuple[RetryCause, ...], OneOrMany()] = Field(
        ("connect", "reset"),
        description="Causes of a retry: connect (the connection failed), reset (it broke before the response), "
        "and statuses of answers from 500 to 599.",
    )
    methods: tuple[Method, ...] = Field(
        ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"),
        description="Methods that may be repeated. If nothing was sent, every request is retried.",
    )
    budget: Share = Field(
        "20%",
        validate_default=True,
        description="Limit on retries, as a share of all requests, so that they do not amplify an outage.",
    )

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses among `on`."""
        return statuses(self.on)


class Queue(Model):
    """The queue of requests while every server is at max_connections."""

    limit: Annotated[Whole, Field(ge=1)] = Field(
        1000, description="Limit on waiting requests, over all workers; others get 503."
    )
    timeout: PositiveDuration = Field("5s", validate_default=True, description="Longest wait; then 503.")


class Backend(Model):
    """A group of servers that can answer the same requests."""

    name: str
    balance: Annotated[str, PlainValidator(_balance), WithJsonSchema(_BALANCE_SCHEMA)] = Field(
        "measured",
        description="How to pick a server: measured (where the answer is expected soonest, by measured times, requests "
        "in flight and load reports), round-robin, weighted-round-robin, least-connections, "
        "weighted-least-connections, two-choices (the less busy of two drawn at random), source-hash, uri-hash, or "
        "the hash of a header.",
    )
    servers: Annotated[tuple[Server, ...], Some()] = Field(description="The servers.")
    affinity: Annotated[Affinity | None, Given()] = Field(None, description="Keep a client on one server.")
    check: Annotated[Check | None, Given()] = Field(None, description="Active check. Default: servers count as up.")
    agent: Agent = Field(default_factory=Agent, description="How servers report their load.")
    outlier: Annotated[Outlier | None, Given()] = Field(
        None, description="Eject a server because of its responses. Default: only checks take servers down."
    )
    slow_start: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="Time in which a returning server reaches its full share; longer while it is overloaded."
    )
    retries: Retries = Field(default_factory=Retries, description="When a request is retried.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Timeouts of servers.")
    tls: Annotated[TlsToServers | None, BeforeValidator(_tls_to_servers)] = Field(
        None,
        description="Speak TLS with all its servers; a server whose address begins with https:// gets it anyway. "
        "Default: plain HTTP.",
    )
    h2: Flag = Field(
        default=False,
        description="Speak HTTP/2 with its servers, as gRPC does: over TLS if they agree (ALPN), else HTTP/1.1; "
        "without TLS always (prior knowledge). Needs the library libnghttp2.so.14 (Debian package libnghttp2-14).",
    )
    proxy_protocol: Annotated[Literal["v1", "v2"] | None, Given()] = Field(
        None,
        description="Begin each connection with a PROXY header of this version; clients then share no connections. "
        "Default: none; servers find the client in X-Forwarded-For.",
    )
    queue: Annotated[Queue | None, Given()] = Field(
        None, description="Wait while every server is at max_connections. Default: 503 at once."
    )

    @property
    def proxy_version(self) -> int:
        """Version of the PROXY header that begins each connection; 0: none does."""
        return int(self.proxy_protocol[1:]) if self.proxy_protocol is not None else 0

    def tls_to(self, server: Server) -> TlsToServers | None:
        """How TLS is spoken with one of its servers; None: it is not."""
        return self.tls or (TlsToServers() if server.address.tls else None)

    def tls_of_check(self, server: Server) -> TlsToServers | None:
        """How its check speaks TLS with one of its servers; None: it does not."""
        wanted = self.check.tls if self.check is not None else None
        if wanted is False or server.address.kind == "unix":
            return None
        usual = self.tls_to(server)
        if not isinstance(wanted, TlsOfChecks):
            return usual or (TlsToServers() if wanted else None)
        certificate = usual.certificate if usual is not None else None
        return TlsToServers.model_construct(**dict(wanted), certificate=certificate)

    @model_validator(mode="after")
    def _shares(self) -> "Backend":
        if self.h2 and not http2_library.is_there():
            message = f"{http2_library.NAME} is not installed: apt install {http2_library.PACKAGE}, or leave h2 out"
            raise Fault(message, "h2")
        if self.h2 and self.proxy_version:
            raise Fault("clients share connections of HTTP/2, and a PROXY header is about one: leave one out", "h2")
        return self

    @model_validator(mode="after")
    def _checkable(self) -> "Backend":
        if self.check is not None and all(server.address.kind == "unix" for server in self.servers):
            if self.check.port is not None:
                raise Fault("the servers are Unix sockets, which have no ports", "check", "port")
            if self.check.tls:
                raise Fault("TLS is not spoken on a Unix socket, which stays on this machine", "check", "tls")
        return self

    @model_validator(mode="after")
    def _named(self) -> "Backend":
        for i, server in enumerate(self.servers):
            tls = self.tls_to(server)
            if tls is not None and server.address.kind == "unix":
                raise Fault("TLS is not spoken on a Unix socket, which stays on this machine", "servers", i)
            if tls is None or tls.server_name is not None or not tls.verify:
                continue
            if server.address.kind == "dns" and server.address.host.startswith("_"):
                message = "records of a service may name any host as the server: say tls: server_name"
                raise Fault(message, "servers", i)
        return self


class Redirect(Model):
    """Redirect the client."""

    shorthand: ClassVar = {"type": "string", "description": "Target; the status is 302."}

    to: Annotated[Text, AfterValidator(_redirect_target)] = Field(
        description=f"URL or path, with placeholders in braces: {', '.join(template.REDIRECT_FIELDS)}."
    )
    status: Annotated[Whole, Field(ge=300, le=399)] = Field(302, description="Status of the response, any 3xx but 304.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"to": value} if isinstance(value, str) else value

    @field_validator("status")
    @classmethod
    def _redirects(cls, value: int) -> int:
        if value == 304:
            raise ValueError("304 is not a redirect")
        return value


_TYPES: Final = {
    **dict.fromkeys((".html", ".htm"), "text/html; charset=utf-8"),
    ".json": "application/json",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
}
"""Types of files (IANA media types) by the end of their names."""


def _type_of(file: Path | None) -> str:
    return _TYPES.get(file.suffix.lower() if file is not None else "", "text/plain; charset=utf-8")


class Respond(Model):
    """A response of the gateway itself."""

    status: Annotated[Whole, Field(ge=200, le=599)] = Field(200, description="Status of the response.")
    body: Text = Field("", description="Body of the response, sent as UTF-8.")
    file: Annotated[File | None, Given()] = Field(
        None, description="File with the body, of at most 1MiB; read when the site file is."
    )
    type: HeaderValue = Field(
        default_factory=lambda data: _type_of(data.get("file")),
        description="Content-Type of a body. Default: by the name of the file, or text/plain; charset=utf-8.",
    )
    headers: dict[HeaderName, HeaderValue] = Field({}, description="More headers, as templates.")

    @model_validator(mode="after")
    def _complete(self) -> "Respond":
        if self.body and self.file is not None:
            raise Fault("body and file cannot be combined", "file", key=True)
        for name in ("body", "file"):
            if getattr(self, name) and self.status in _BODILESS:
                raise Fault(f"status {self.status} has no body", name, key=True)
        for name in self.headers:
            if name.lower() in _FRAMING:
                raise Fault(f"{name} is set by the gateway", "headers", name, key=True)
        return self


class Apache(Model):
    """Rules of Apache's mod_rewrite."""

    shorthand: ClassVar = {"type": "string", "description": "The file; defaults for the rest depend on its name."}

    file: File = Field(description="File with RewriteRule and related directives.")
    context: Literal["server", "directory"] = Field(
        default_factory=lambda data: "directory" if "htaccess" in data["file"].name else "server",
        description="Context in Apache. Default: directory if its name has htaccess in it, else server.",
    )
    base: Annotated[Text, AfterValidator(_prefix)] = Field(
        "/", description="Path of the directory, unless the file sets it (RewriteBase)."
    )
    document_root: Text = Field("/var/www/html", description="Prefix of DOCUMENT_ROOT and REQUEST_FILENAME.")
    exists: tuple[Annotated[Text, AfterValidator(_prefix)], ...] = Field(
        (),
        description='Paths for -f and -d: "/img/" is a directory with everything below it, "/a.php" a file, "/*.css" '
        "every path that ends so.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value


class Python(Model):
    """A Python function that decides about requests."""

    shorthand: ClassVar = {"type": "string", "description": "The function; the budget is 5ms."}

    function: Annotated[
        Function,
        BeforeValidator(_function),
        WithJsonSchema({"type": "string", "pattern": r"^[\w.]+:\w+$", "examples": ["rules.custom:route"]}),
    ] = Field(description="module:function, or package.module:function; the module is a file beside the site file.")
    budget: PositiveDuration = Field(
        "5ms", validate_default=True, description="Time for a call; longer ones are logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"function": value} if isinstance(value, str) else value


_FINAL: Final = ("redirect", "respond", "backend", "split", "close")
_CHANGES: Final = (
    "rewrite",
    "class_",
    "apache",
    "python",
    "site",
    "rate",
    "bandwidth",
    "require_client_cert",
    "basic_auth",
    "pages",
    "body_bytes",
    "header_bytes",
)
_ANSWERS: Final = ("set_response_header", "append_response_header", "default_response_header")
_EDITS: Final = ("set_header", "append_header", "default_header", *_ANSWERS)
_REWRITES: Final = ("rewrite_location", "rewrite_cookie")


class Route(RateLimited):
    """What to do with matching requests: the first route that matches decides."""

    match: Match = Field(default_factory=Match, description="Which requests; default: all.")
    class_: Annotated[ClassName | None, Given()] = Field(
        None, alias="class", description="Class of the request from here on, for later routes and the log."
    )
    set_header: dict[HeaderName, HeaderValue | None] = Field(
        {}, description="Headers of the request to replace, as templates; null removes."
    )
    append_header: dict[HeaderName, HeaderValue] = Field(
        {}, description="Headers to add to the request, in addition to existing ones of that name."
    )
    set_response_header: dict[HeaderName, HeaderValue | None] = Field(
        {}, description="Headers of the response to replace; null removes."
    )
    append_response_header: dict[HeaderName, HeaderValue] = Field({}, description="Headers to add to the response.")
    default_header: dict[HeaderName, HeaderValue] = Field(
        {}, description="Headers for requests that have none of that name, as templates."
    )
    default_response_header: dict[HeaderName, HeaderValue] = Field(
        {}, description="Headers for responses that have none of that name, as templates."
    )
    rewrite_location: dict[Annotated[Text, AfterValidator(_redirect_target)], Text] = Field(
        {},
        description="How Location of a response begins, and what takes its place, as a template; the first that fits "
        "counts.",
    )
    rewrite_cookie: Annotated[CookieRewrite | None, Given()] = Field(
        None, description="Path and Domain of the cookies that servers set."
    )
    response_status: Annotated[tuple[StatusField, ...], OneOrMany()] = Field(
        (), description='The route\'s changes of responses are for these statuses, such as "500-599". Default: all.'
    )
    pages: dict[Annotated[int, Field(ge=400, le=599)], File] = Field(
        {}, description="Files with the bodies of the gateway's own error responses to these requests, by status."
    )
    rewrite: Annotated[Annotated[Text, AfterValidator(_rewrite_target)] | None, Given()] = Field(
        None,
        description="Path for the routes that follow and for the server, as a template; with a question mark, a new "
        "query as well.",
    )
    apache: Annotated[Apache | None, Given()] = Field(None, description="Apply rules of Apache's mod_rewrite.")
    python: Annotated[Python | None, Given()] = Field(None, description="Call a Python function.")
    site: Annotated[Text | None, Given()] = Field(
        None,
        description="Send the client to another site, by its name; auto: to the best one that has room and less load "
        "than this one. Otherwise, and for clients that another site has redirected here, the next routes decide.",
    )
    require_client_cert: Flag = Field(
        default=False,
        description="Refuse requests of clients that have not shown a valid certificate (403); needs a frontend with "
        "client_ca.",
    )
    basic_auth: Annotated[BasicAuth | None, Given()] = Field(
        None, description="Let only clients pass that log in with a user and password of a file; others get 401."
    )
    body_bytes: Annotated[Size | None, Given()] = Field(
        None,
        description="Largest request body; larger ones get 413. Of several routes, and the limit of the frontend, the "
        "smallest holds.",
    )
    header_bytes: Annotated[Size | None, Given()] = Field(
        None, description="Largest head of a request; larger ones get 431. Otherwise as body_bytes."
    )
    timeouts: Annotated[RouteTimeouts | None, Given()] = Field(
        None, description="Timeouts of servers in place of the backend's, for a route with backend or split."
    )
    retries: Annotated[RouteRetries | None, Given()] = Field(
        None, description="Retries in place of the backend's, for a route with backend or split."
    )
    affinity: RouteAffinity = Field(
        None,
        description="Affinity in place of the backend's, of any kind, for a route with backend or split; false: none.",
    )
    redirect: Annotated[Redirect | None, Given()] = Field(None, description="Redirect the client.")
    respond: Annotated[Respond | None, Given()] = Field(None, description="Respond from the gateway itself.")
    backend: Annotated[Text | None, Given()] = Field(None, description="Name of the backend for the request.")
    close: Annotated[Literal[True] | None, Given()] = Field(
        None,
        description="true: close the connection, or the HTTP/2 stream, without a response. The log has status 444.",
    )
    split: Annotated[Split | None, Given()] = Field(
        None, description="Backends for the requests, by percentage, such as {canary: 5%, app: 95%}."
    )

    @property
    def settings(self) -> tuple[object, ...] | None:
        """What it has in place of its backend's, as a key; None: nothing."""
        own = (self.timeouts, self.retries, self.affinity)
        return None if own == (None, None, None) else tuple(map(repr, own))

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of the backends that it leads to."""
        if self.backend is not None:
            return (self.backend,)
        return tuple(self.split.to) if self.split is not None else ()

    @property
    def final(self) -> bool:
        """Whether a matching request goes no further."""
        return any(getattr(self, name) is not None for name in _FINAL)

    @model_validator(mode="after")
    def _one_action(self) -> "Route":
        actions = [name for name in _FINAL if getattr(self, name) is not None]
        if len(actions) > 1:
            raise Fault(f"{actions[0]} and {actions[1]} cannot be combined in a route", actions[1], key=True)
        for name in ("timeouts", "retries", "affinity"):
            if getattr(self, name) is not None and self.backend is None and self.split is None:
                raise Fault(f"{name} needs backend or split in the same route", name, key=True)
        if not actions and not any(getattr(self, name) for name in (*_EDITS, *_REWRITES, *_CHANGES)):
            raise Fault(f"a route needs one of {', '.join(_FINAL)}, or something to change")
        return self

    @model_validator(mode="after")
    def _templates(self) -> "Route":
        groups = self.match.groups
        for key in _EDITS:
            for name in getattr(self, key):
                if (
                    name.lower() in _OURS
                    or name.lower().startswith("proxy-")
                    or ("response" in key and name.lower() == "host")
                ):
                    raise Fault(f"{name} is written by the gateway", key, name, key=True)
        if self.response_status and not any(getattr(self, name) for name in (*_ANSWERS, *_REWRITES)):
            raise Fault("the route changes nothing of responses", "response_status", key=True)
        for at, value in self.templates():
            _template(value, groups, *at)
        for before, after in self.rewrite_location.items():
            try:
                _no_choice_of_host(_redirect_target(after), _template(after, groups))
            except Fault as fault:
                raise Fault(str(fault), "rewrite_location", before, offset=fault.offset) from None
            except ValueError as error:
                raise Fault(str(error), "rewrite_location", before) from None
        if self.dry_run and self.rate is None:
            raise Fault("dry_run needs rate", "dry_run", key=True)
        self.check_per(groups)
        if self.redirect is not None:
            try:
                _no_choice_of_host(self.redirect.to, _template(self.redirect.to, groups))
            except Fault as fault:
                raise Fault(str(fault), "redirect", "to", offset=fault.offset) from None
        return self

    def templates(self) -> Iterator[tuple[Loc, str]]:
        """Each text with fields, and where it stands in the route."""
        for key in _EDITS:
            yield from (((key, name), value) for name, value in getattr(self, key).items() if value is not None)
        yield from ((("rewrite_location", name), value) for name, value in self.rewrite_location.items())
        for part in ("path", "domain") if self.rewrite_cookie is not None else ():
            pairs = getattr(self.rewrite_cookie, part).items()
            yield from ((("rewrite_cookie", part, name), value) for name, value in pairs)
        if self.respond is not None:
            yield from ((("respond", "headers", name), value) for name, value in self.respond.headers.items())
        if self.rewrite is not None:
            yield ("rewrite",), self.rewrite
        if self.redirect is not None:
            yield ("redirect", "to"), self.redirect.to
        if self.per is not None and self.per.kind == "template":
            yield ("per",), self.per.name
        if self.split is not None and self.split.by is not None:
            yield ("split", "by"), self.split.by


def _sandbox(value: object) -> object:
    if value is False or value == "off":
        return None
    if value is True or value == "on":
        return {}
    if isinstance(value, dict | Sandbox):
        return value
    raise ValueError(f"expected on, off or a mapping with read, not {kind(value)}")


def _named_backends(value: object) -> object:
    """Set each backend's name to its key."""
    if not isinstance(value, dict):
        return value
    return {key: {**item, "name": key} if isinstance(item, dict) else item for key, item in value.items()}


class Sandbox(Model):
    """Exceptions from the sandbox of the gateway's processes."""

    read: tuple[File, ...] = Field(
        (), description="Files and directories that Python rules may read, in addition to Python's own."
    )


class Site(Model):
    """A whole site file."""

    node: Text = Field(default_factory=socket.gethostname, description="This gateway's name. Default: the host name.")
    workers: Annotated[
        int,
        PlainValidator(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}]}),
    ] = Field(
        default_factory=_cores,
        description="Processes that carry traffic; auto is one per core.",
    )
    user: Text = Field("nobody", description="User of the workers when the gateway is started as root.")
    sandbox: Annotated[Sandbox | None, BeforeValidator(_sandbox)] = Field(
        default_factory=Sandbox,
        description="Let the kernel hold each process to what it needs (seccomp, Landlock); off is for debugging.",
    )
    core_dumps: Flag = Field(
        default=False,
        description="Allow core dumps and debuggers for processes that hold keys.",
    )
    drain: Duration = Field(
        "30s",
        validate_default=True,
        description="Time for requests in flight when the gateway stops.",
    )
    access_log: Annotated[AccessLogs, AfterValidator(one_file), BeforeValidator(logs)] = Field(
        (), description="A log line for each request; several logs as a list, and an empty list is off. Default: off."
    )
    load_reports: Annotated[LoadReports | None, Given()] = Field(
        None, description="Receive the reports of load agents. Default: none are received."
    )
    tracing: Annotated[Tracing | None, Given()] = Field(
        None, description="Send spans of requests to a collector of OpenTelemetry. Default: none are made."
    )
    admin: Admin = Field(default_factory=Admin, description="Access for operators to a running gateway.")
    state: File = Field(
        "/var/lib/gateway",
        validate_default=True,
        description="Directory for data that survives restarts: last good configuration, the gateway's own key.",
    )
    cluster: Annotated[Cluster | None, Given()] = Field(
        None, description="The gateways of this site and their shared addresses. Default: a single gateway."
    )
    sites: Annotated[Sites | None, Given()] = Field(
        None, description="Other sites that clients may be redirected to. Default: none."
    )
    dns: Annotated[Dns | None, Given()] = Field(
        None, description="The authoritative name server of this gateway. Default: none."
    )
    resolver: Resolver = Field(default_factory=Resolver, description="Name servers for dns: entries.")
    include: Annotated[tuple[Text, ...], OneOrMany()] = Field(
        (),
        description="Files with more frontends, backends, maps, pages, routes and tests: names, patterns such as "
        "sites/*.yaml, and directories (all *.yaml in them). Their routes come before those of the site file.",
    )
    frontends: tuple[Frontend, ...] = Field((), description="Entrances for clients.")
    backends: Annotated[dict[Name, Backend], BeforeValidator(_named_backends)] = Field(
        {}, description="Groups of servers, by name."
    )
    maps: dict[MapName, MapFile] = Field(
        {}, description="Files of keys and values, by name: {map:NAME:FIELD} in templates, map() in expressions."
    )
    routes: tuple[Route, ...] = Field(
        default_factory=lambda data: tuple(
            Route(backend=name) for name in data["backends"] if len(data["backends"]) == 1
        ),
        description="What to do with requests; the first route that matches decides. "
        "May be left out when there is one backend.",
    )
    qos: Qos = Field(default_factory=Qos, description="Quality of service: classes, limits, overload, sessions.")
    pages: dict[Annotated[int, Field(ge=400, le=599)], File] = Field(
        {}, description="Files with the bodies of the gateway's own error responses, by status."
    )
    tests: tuple[SiteTest, ...] = Field((), description="Requests and their expected results; see gateway test.")
    tests_required: Flag = Field(
        default=False, description="Refuse to start or reload with a file whose tests fail; check runs them, too."
    )

    def affinities(self) -> Iterator[tuple[Loc, tuple[str, ...], Affinity]]:
        """Every affinity: where it stands, the names of its backends, and itself."""
        for name, backend in self.backends.items():
            if backend.affinity is not None:
                yield ("backends", name, "affinity"), (name,), backend.affinity
        for i, route in enumerate(self.routes):
            if route.affinity is not None and route.affinity is not NO_AFFINITY:
                yield ("routes", i, "affinity"), route.backends, route.affinity

    @property
    def keeping(self) -> frozenset[str]:
        """The names of the backends that have affinity, of their own or by a route."""
        return frozenset(name for _, backends, _ in self.affinities() for name in backends)

    @property
    def gets_certificates(self) -> bool:
        """Whether some of its certificates come by ACME."""
        return any(frontend.tls is not None and frontend.tls.acme is not None for frontend in self.frontends)

    @property
    def log_path(self) -> str | None:
        """The file that the access log is written to; "-" is standard output, None: no log goes to a file."""
        return next((log.path for log in self.access_log if log.path is not None), None)

    def queue(self, backend: str) -> Queue | None:
        """The queue for a backend's requests; None: they do not wait.

        With overload control there always is one, and with `max: auto` of sessions: those that were admitted wait.
        """
        measured = self.qos.sessions is not None and self.qos.sessions.max == 0
        return self.backends[backend].queue or (Queue() if self.qos.overload is not None or measured else None)

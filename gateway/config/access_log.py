"""`access_log:` of the site file: where lines go, their form, and which requests have one."""

import re
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config import template
from gateway.config.address import Target, target
from gateway.config.fields import Model, Share, Text, text
from gateway.config.problem import Fault, kind, suggest

MOST: Final = 4
"""Logs of a site."""
LOG_FIELDS: Final = {
    "client": "address of the client, as reported by trusted proxies",
    "peer": "peer address of the connection: a trusted proxy's, or the client's",
    "time": "start of the request, RFC 3339 in UTC",
    "method": "request method",
    "host": "requested host",
    "uri": "path and query as received",
    "path": "path without the query",
    "protocol": "HTTP/1.0, HTTP/1.1 or HTTP/2.0",
    "status": "status of the response",
    "bytes": "body bytes sent to the client",
    "duration_ms": "from the first byte of the request to the last byte of the response",
    "upstream_ms": "from picking the server to the head of its response",
    "backend": "backend chosen",
    "server": "server chosen",
    "scheme": "http or https",
    "referer": "Referer header",
    "user_agent": "User-Agent header",
    "request_bytes": "body bytes received from the client",
    "class": "class of the request",
    "session": "live, adopted, new, waiting, early, asset or full; empty: the request needs no session",
    "user": "user that has logged in by basic_auth; empty: none",
    "rule": "file and line of the rule of Apache that answered; empty: none did",
    "why": "that rule in short, and what was wrong with its result; empty: no rule of Apache answered",
    "outcome": "outcome of the request, in one word",
    "side": "side at fault for the outcome: client, gateway or server; empty: none",
    "tries": "attempts at servers; 0: the gateway responded itself",
    "queue_ms": "time in the queue for a server",
    "frontend": "name of the frontend",
    "client_port": "port of the client; 0 at a Unix socket, and behind a trusted proxy",
    "tls_version": "of the client's connection, such as TLSv1.3; empty without TLS",
    "tls_cipher": "of the client's connection; empty without TLS",
    "request_id": "id of the request, as in X-Request-ID",
}
"""Placeholders of an access-log template, and their meaning. There is also {header:Name}."""
FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)
"""In the order of their numbers (RFC 5424 section 6.2.1)."""
SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The same of severities."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_APP: Final = re.compile(r"[!-~]{1,48}")

Facility = Literal[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
Severity = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]


def _path(value: object, info: ValidationInfo) -> str:
    path = text(value, 'a file, or "-"')
    if not path or not path.isprintable():
        raise ValueError('expected a file, or "-"')
    name, blank, form = path.rpartition(" ")
    if blank and (form in ("json", "combined", "main", "buffered") or form.startswith(("buffer=", "if="))):
        raise ValueError(f"the format has a key of its own: write {{path: {name}, format: combined}}")
    directory = (info.context or {}).get("directory")
    return str(directory / path) if directory and path != "-" else path


def _format(value: str) -> str:
    if value in ("json", "combined"):
        return value
    if "{" not in value:
        raise ValueError(f"expected json, combined or a template with {{fields}}{suggest(value, ('json', 'combined'))}")
    if control := _CONTROL.search(value):
        raise Fault("the format must be a single line", offset=control.start())
    template.log_parts(value, LOG_FIELDS)
    return value


def _target(value: object) -> Target:
    return value if isinstance(value, Target) else target(text(value, "udp://ADDRESS:PORT or tcp://ADDRESS:PORT"))


def _app(value: str) -> str:
    if not _APP.fullmatch(value):
        raise ValueError("expected up to 48 visible letters, without spaces")
    return value


def _share(value: float) -> float:
    if value == 0:
        raise ValueError("expected more than 0%: `access_log: off` writes no lines")
    return value


class Syslog(Model):
    """A syslog receiver."""

    shorthand: ClassVar = {"type": "string", "pattern": "^(udp|tcp)://", "examples": ["udp://192.0.2.1:514"]}

    to: Annotated[Target, PlainValidator(_target), WithJsonSchema({"type": "string", "pattern": "^(udp|tcp)://"})] = (
        Field(
            description="udp://ADDRESS:PORT, a datagram for each line, or tcp://ADDRESS:PORT, with octet counting "
            "(RFC 6587). Default ports: 514 and 601."
        )
    )
    facility: Facility = Field("local0", description="Facility of the messages.")
    severity: Severity = Field("info", description="Severity of the messages.")
    app: Annotated[Text, AfterValidator(_app)] = Field("gateway", description="APP-NAME of the messages.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"to": value} if isinstance(value, str) else value

    @property
    def priority(self) -> int:
        """PRI: facility and severity as a number."""
        return FACILITIES.index(self.facility) * 8 + SEVERITIES.index(self.severity)


class AccessLog(Model):
    """A log with a line for each request."""

    shorthand: ClassVar = {
        "type": "string",
        "description": 'A file, or "-" for standard output; off for no log.',
    }

    path: Annotated[str | None, BeforeValidator(_path)] = Field(
        None,
        description='File to append to; "-" is standard output. Relative names refer to the directory of the site '
        "file.",
        json_schema_extra={"type": "string"},
    )
    syslog: Syslog | None = Field(None, description="Syslog receiver of the lines (RFC 5424), in place of a file.")
    format: Annotated[Text, AfterValidator(_format)] = Field(
        "json",
        description="json (an object per line), combined (as Apache and nginx write it), or a template with "
        f"placeholders in braces: {', '.join(LOG_FIELDS)}, and header:NAME for any header of the request.",
    )
    sample: Annotated[Share, AfterValidator(_share)] = Field(
        1.0,
        description="Share of requests that have a line, drawn by the request id; requests that the gateway or a "
        "server failed have one in any case.",
        json_schema_extra={"default": "100%"},
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if value in (False, "off"):
            raise ValueError("off cannot stand beside other logs")
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _somewhere(self) -> "AccessLog":
        if (self.path is None) == (self.syslog is None):
            raise Fault("set path or syslog: where lines are written" if self.path is None else
                        "path and syslog cannot be combined: write two logs, as a list")  # fmt: skip
        return self


AccessLogs: TypeAlias = tuple[AccessLog, ...]


def logs(value: object) -> object:
    """Read `access_log:`, which may be off, one log or a list of them."""
    if value is None:
        raise ValueError(f"expected off, a file or a mapping, not {kind(value)}")
    if value is False or value == "off":
        return ()
    return value if isinstance(value, (list, tuple)) else [value]


def one_file(value: AccessLogs) -> AccessLogs:
    """Refuse more logs than can be written."""
    if len(value) > MOST:  # an empty list is no log, as off
        raise ValueError(f"expected at most {MOST} logs")
    if sum(log.path is not None for log in value) > 1:
        raise ValueError("one of several logs may have a path; the others go to syslog")
    return value

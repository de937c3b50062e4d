"""Texts with `{field}` placeholders: access-log lines, redirect targets. `{{` and `}}` denote a brace."""

import re
from collections.abc import Collection, Iterator
from typing import Final, Literal, TypeAlias

from gateway.config.problem import Fault, suggest

FAMILIES: Final = ("header", "cookie", "query", "map")
"""Fields with a colon and a name, such as {header:Accept}; a map's has another colon, and the field that is the key."""
REDIRECT_FIELDS: Final = {
    "scheme": "http or https, as the request came in",
    "host": "requested host, without port",
    "uri": "path and query as received",
    "path": "path without the query",
    "path_rest": "what follows the matched prefix in the path",
    "query": "query without the question mark",
    "client": "address of the client",
    "request_id": "id of the request",
    "user": "user that has logged in by basic_auth; empty: none",
    "method": "request method",
    "protocol": "HTTP/1.0, HTTP/1.1 or HTTP/2.0",
    "peer": "peer address of the connection: a trusted proxy's, or the client's",
    "client_port": "port of the client; empty at a Unix socket, and behind a trusted proxy",
    "frontend": "name of the frontend",
    "class": "class of the request; empty: none",
    "time": "time of the decision, RFC 3339 in UTC",
    "tls_version": "of the client's connection, such as TLSv1.3; empty without TLS",
    "tls_cipher": "of the client's connection; empty without TLS",
}
"""Placeholders of a route's templates, and their meaning. There are also {header:Name}, {cookie:name},
{query:name}, {map:NAME:FIELD} and the named groups of the route's own regular expressions."""
_NAMED: Final = re.compile(r"(header|cookie|query):([A-Za-z0-9!#$%&'*+.^_`|~-]+)")
_OF_MAP: Final = re.compile(r"map:([A-Za-z0-9_-]{1,64}):(.+)")
_BRACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

_FOREIGN: Final = re.compile(
    r"\$\{?([0-9](?![0-9.,])|args|host|http_host|request_uri|uri|scheme|remote_addr|remote_user|query_string|is_args|server_name|http_[a-z_]+)\b\}?"
    r"|\\(\d)|%\{([A-Z_]+(?::[\w-]+)?)\}|%\[([\w.,() -]+)\]"
)
"""Fields as nginx, Apache and HAProxy write them."""
_OURS: Final = {
    **dict.fromkeys(("host", "http_host", "server_name", "HTTP_HOST", "SERVER_NAME", "req.hdr(host)"), "{host}"),
    **dict.fromkeys(("request_uri", "REQUEST_URI", "capture.req.uri", "url"), "{uri}"),
    **dict.fromkeys(("uri", "path"), "{path}"),
    **dict.fromkeys(("scheme", "REQUEST_SCHEME"), "{scheme}"),
    **dict.fromkeys(("remote_addr", "REMOTE_ADDR", "src"), "{client}"),
    **dict.fromkeys(("remote_user", "REMOTE_USER"), "{user}"),
    **dict.fromkeys(("args", "query_string", "QUERY_STRING", "is_args", "query"), "{query}"),
}
_IN_BRACES: Final = {
    **dict.fromkeys(("http.request.host", "hostport", "http.request.hostport", "domain"), "{host}"),
    **dict.fromkeys(("http.request.uri", "url", "request_uri"), "{uri}"),
    **dict.fromkeys(("http.request.uri.path", "http.request.orig_uri.path"), "{path}"),
    **dict.fromkeys(("http.request.uri.query", "args"), "{query}"),
    **dict.fromkeys(("remote_host", "http.request.remote.host", "client_ip", "remote_addr", "ip", "src"), "{client}"),
    **dict.fromkeys(("http.request.scheme",), "{scheme}"),
    **dict.fromkeys(("http.request.method",), "{method}"),
    **dict.fromkeys(("http.auth.user.id", "remote_user"), "{user}"),
    **dict.fromkeys(("uuid", "http.request.uuid", "unique_id"), "{request_id}"),
}
"""Placeholders of Caddy and others, which write braces as well."""
_HEADER_IN_BRACES: Final = re.compile(r"(?:http[.]request[.])?(header|cookie|query)[.s](.+)")


def _instead(written: str, name: str) -> str:
    """What to write for a field as others write it."""
    if name.isdigit():
        return f"{written} stands for itself here: name the group in the pattern, (?<name>…), and write {{name}}"
    if name.startswith("http_") and name != "http_host":
        return f"{written} stands for itself here: write {{header:{name[5:].replace('_', '-')}}}"
    ours = _OURS.get(name)
    return f"{written} stands for itself here: " + (f"write {ours}" if ours else "fields are written in braces")


_SECRET: Final = ("authorization", "proxy-authorization")

Header: TypeAlias = tuple[Literal["header"], str]
"""A field of a log line: the header of that name, in lower case."""


def log_parts(text: str, fields: Collection[str]) -> tuple[tuple[str, str | Header | None], ...]:
    """Split an access-log template as `parts` does; {header:Name} becomes a Header. Raises Fault."""
    return tuple((literal, _of_log(field)) for literal, field in parts(text, fields, named=("header",)))


def _of_log(field: str | None) -> str | Header | None:
    _, colon, name = (field or "").partition(":")
    if name.lower() in _SECRET:
        raise Fault(f"{name} has passwords, which no log should have; for the name write {{user}}")
    return ("header", name.lower()) if colon else field


def parts(text: str, fields: Collection[str], *, named: Collection[str] = ()) -> tuple[tuple[str, str | None], ...]:
    """Split `text` into (literal, field) pairs; the last pair's field is None. `named`: the allowed FAMILIES.

    Raises Fault, with the offset of the wrong character, for an unknown field or an unmatched brace.
    """
    if foreign := _FOREIGN.search(text):
        name = next(filter(None, foreign.groups()))
        raise Fault(_instead(foreign[0], name), offset=foreign.start())
    pairs: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for match in _BRACE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        field = match[1]
        if match[0] in ("{{", "}}"):
            literal += match[0][0]
        elif field is None:
            raise Fault(f"a lone {match[0]}; write {match[0] * 2} for a brace", offset=match.start())
        elif field.startswith("map:") and "map" in named:
            _check_map(field, fields, named, match.start())
            pairs.append((literal, field))
            literal = ""
        elif not _is_known(field, fields, named):
            raise Fault(f"unknown field {{{field}}}{_meant(field, fields, named)}", offset=match.start())
        else:
            pairs.append((literal, field))
            literal = ""
    return (*pairs, (literal + text[end:], None))


def _meant(field: str, fields: Collection[str], named: Collection[str]) -> str:
    """What is meant by an unknown field."""
    ours = _IN_BRACES.get(field, "")
    if family := _HEADER_IN_BRACES.fullmatch(field):
        ours = f"{{{family[1]}:{family[2]}}}" if family[1] in named else ""
    if ours[1:-1].partition(":")[0] in {*fields, *named}:
        return f": write {ours}"
    if field.isdecimal():
        return ": name the group in the pattern, (?<name>…), and write {name}"
    return suggest(field, fields) or f"; there are {', '.join(fields)}"


def _is_known(field: str, fields: Collection[str], named: Collection[str]) -> bool:
    family = _NAMED.fullmatch(field)
    return field in fields or (family is not None and family[1] in named)


def _check_map(field: str, fields: Collection[str], named: Collection[str], offset: int) -> None:
    """Refuse a look-up whose form or key is not valid. Raises Fault."""
    found = _OF_MAP.fullmatch(field)
    if found is None:
        raise Fault("expected {map:NAME:FIELD}, such as {map:tenants:host}", offset=offset)
    if not _is_known(found[2], fields, named):
        hint = suggest(found[2], fields) or f"; there are {', '.join(fields)}"
        raise Fault(f"unknown field {found[2]} as the key of a map{hint}", offset=offset)


def maps_in(text: str) -> Iterator[tuple[str, int]]:
    """The name of each map that a valid template looks up, and its position."""
    for match in _BRACE.finditer(text):
        if match[1] is not None and (found := _OF_MAP.fullmatch(match[1])):
            yield found[1], match.start()

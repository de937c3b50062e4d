"""Log-format texts and sample fetches of HAProxy, as texts with fields."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.importing.haproxy_maps import MapText
from gateway.importing.patterns import literal
from gateway.importing.report import NotPossible

_FIELD: Final = re.compile(r"%(?:\{[^}]*\})?(?:\[((?:[^\[\]]|\[[^\]]*\])*)\]|([A-Za-z]+)|(%))")
_CALL: Final = re.compile(r"([\w.-]+)(?:\(([^()]*)\))?")
_ALIASES: Final = {"ci": "client", "cp": "client_port", "ID": "request_id", "HU": "uri", "HP": "path", "HM": "method"}
_PLAIN: Final = {
    "src": "client",
    "src_port": "client_port",
    "path": "path",
    "query": "query",
    "url": "uri",
    "pathq": "uri",
    "capture.req.uri": "uri",
    "method": "method",
    "capture.req.method": "method",
    "unique-id": "request_id",
    "fe_name": "frontend",
    "ssl_fc_protocol": "tls_version",
    "ssl_fc_cipher": "tls_cipher",
    "http_auth_user": "user",
}
_NAMED: Final = {
    **dict.fromkeys(("hdr", "req.hdr", "req.fhdr", "fhdr"), "header"),
    **dict.fromkeys(("cook", "req.cook"), "cookie"),
    **dict.fromkeys(("url_param", "urlp"), "query"),
}

AddMap = Callable[[MapText], str]


def calls(expression: str) -> list[tuple[str, str]]:
    """A sample expression as its fetch and converters, each with what stands in its parentheses."""
    found, at = [], 0
    while at < len(expression):
        call = _CALL.match(expression, at)
        if call is None:
            raise NotPossible(f"{expression} cannot be expressed here")
        found.append((call[1], call[2] or ""))
        at = call.end() + 1
    return found


def field_of(fetch: str, argument: str) -> str:
    """The field of a request that a fetch takes, such as header:X. Raises NotPossible."""
    if fetch in _NAMED and argument:
        name = argument.split(",", maxsplit=1)[0].strip()
        return "host" if _NAMED[fetch] == "header" and name.lower() == "host" else f"{_NAMED[fetch]}:{name}"
    if fetch in _PLAIN:
        return _PLAIN[fetch]
    raise NotPossible(f"{fetch} has no counterpart among the fields of a request")


class Texts:
    """Converts texts; `add_map` takes up a map that one of them names, and returns its name."""

    def __init__(self, directory: Path, add_map: AddMap) -> None:
        self._directory = directory
        self._add_map = add_map

    def template(self, text: str, groups: dict[str, str] | None = None) -> str:
        """A log-format text as a text with fields; `groups`: names for back references. Raises NotPossible."""
        made, at = [], 0
        for found in _FIELD.finditer(text):
            made += [self._literal(text[at : found.start()], groups), self._field(found)]
            at = found.end()
        made.append(self._literal(text[at:], groups))
        return "".join(made)

    @staticmethod
    def _literal(text: str, groups: dict[str, str] | None) -> str:
        pieces = re.split(r"\\([0-9])", text)
        made = literal(pieces[0])
        for digit, rest in zip(pieces[1::2], pieces[2::2], strict=True):
            if groups is None:
                made += f"\\{digit}"
            elif digit not in groups:
                raise NotPossible(f"\\{digit} stands for no group of the pattern")
            else:
                made += f"{{{groups[digit]}}}"
            made += literal(rest)
        return made

    def _field(self, found: re.Match[str]) -> str:
        expression, alias, percent = found.groups()
        if percent:
            return "%"
        if alias:
            if alias not in _ALIASES:
                raise NotPossible(f"%{alias} has no counterpart among the fields of a request")
            return f"{{{_ALIASES[alias]}}}"
        return self.expression(expression)

    def expression(self, expression: str) -> str:
        """A sample expression as a text with one field, or none. Raises NotPossible."""
        (fetch, argument), *converters = calls(expression)
        if fetch == "str":
            return literal(argument)
        if fetch == "ssl_fc" and converters == [("iif", "https,http")]:
            return "{scheme}"
        field = field_of(fetch, argument)
        for at, (name, values) in enumerate(converters, 1):
            if name in ("lower", "host_only", "field", "word") and field == "host" and name in ("lower", "host_only"):
                continue
            if (name == "map" or name.startswith("map_")) and at == len(converters):
                return f"{{map:{self.map(name, values, of=field)}:{field}}}"
            raise NotPossible(f"the converter {name} has no counterpart: let a server, or a python rule, do it")
        return f"{{{field}}}"

    def map(self, converter: str, values: str, *, of: str) -> str:
        """The name of the map of a converter such as map_beg(FILE,default), for a field. Raises NotPossible."""
        found = MapText.read(converter, values, self._directory)
        if of == "host" and found.keys == "exact":  # a host has no case
            found = replace(found, keys="host", pairs=tuple({key.lower(): value for key, value in found.pairs}.items()))
        return self._add_map(found)

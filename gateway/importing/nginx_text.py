"""Texts of nginx with variables, as texts with fields."""

import re
from typing import Final

from gateway.importing.patterns import literal
from gateway.importing.report import NotPossible

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FIELDS: Final = {
    "host": "host",
    "http_host": "header:Host",
    "request_uri": "uri",
    "uri": "path",
    "document_uri": "path",
    "args": "query",
    "query_string": "query",
    "scheme": "scheme",
    "remote_addr": "client",
    "binary_remote_addr": "client",
    "realip_remote_addr": "peer",
    "remote_port": "client_port",
    "remote_user": "user",
    "request_method": "method",
    "request_id": "request_id",
    "server_protocol": "protocol",
    "ssl_protocol": "tls_version",
    "ssl_cipher": "tls_cipher",
    "time_iso8601": "time",
}
_EXPRESSIONS: Final = {"host": "host", "path": "path", "uri": "uri", "client": "client", "method": "method"}


def field_of(name: str) -> str:
    """The field of a request that a variable stands for. Raises NotPossible."""
    for prefix, kind in (("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")):
        if name.startswith(prefix) and name not in _FIELDS and len(name) > len(prefix):
            rest = name[len(prefix) :]
            return f"{kind}:{rest.replace('_', '-').title() if kind == 'header' else rest}"
    if name not in _FIELDS:
        raise NotPossible(f"${name} has no counterpart among the fields of a request")
    return _FIELDS[name]


def expression_of(field: str) -> str:
    """A field as a variable of expressions. Raises NotPossible."""
    kind, _, name = field.partition(":")
    if name:
        return f'{ {"header": "headers", "cookie": "cookies", "query": "query"}[kind] }["{name}"]'
    if kind not in _EXPRESSIONS:
        raise NotPossible(f"{kind} is not known to expressions")
    return _EXPRESSIONS[kind]


class Texts:
    """Converts texts. `variables`: what maps, `set` and patterns have made, each as a text with fields."""

    def __init__(self, variables: dict[str, str] | None = None) -> None:
        self.variables = dict(variables or {})

    def but(self, more: dict[str, str]) -> "Texts":
        """The same with more variables."""
        return Texts({**self.variables, **more})

    def template(self, text: str) -> str:
        """The text with fields. Raises NotPossible."""
        made, at = [], 0
        for found in _VARIABLE.finditer(text):
            made.append(literal(text[at : found.start()]))
            name = found[1] or found[2]
            made.append(self.variables[name] if name in self.variables else f"{{{field_of(name)}}}")
            at = found.end()
        made.append(literal(text[at:]))
        return "".join(made)

    def target(self, text: str) -> tuple[str, bool]:
        """The target of a redirect, and whether the query follows where there is one. Raises NotPossible."""
        appended = text.endswith(("$is_args$args", "$is_args$query_string", "${is_args}${args}"))
        if appended:
            text = text[: text.rindex("$is_args" if "$is_args" in text else "${is_args}")]
        return self.template(text.replace("$http_host", "$host")), appended


def variable(text: str) -> str:
    """The variable that is all of a text, or nothing."""
    found = _VARIABLE.fullmatch(text)
    return (found[1] or found[2]) if found is not None else ""

"""Types of single values in the site file: each validates, normalizes, and provides its JSON schema."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gateway.config import address, units
from gateway.config.expression import Expression, parse
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault, kind, suggest

T = TypeVar("T")

NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Names of backends and servers: safe in a cookie value (RFC 6265 section 4.1.1) and in a log line."""
FRONTEND_NAME: Final = re.compile(r"[A-Za-z0-9._:/\[\]-]{1,64}")
TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
"""RFC 9110 section 5.6.2: names of header fields and cookies."""
PARAMETER: Final = re.compile(r"[!-~]{1,256}")
METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
_HOST: Final = re.compile(r"(?:\*\.)?(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\]")
_HOST_WITH_PORT: Final = re.compile(r"(.+):[0-9]+")
_PATH: Final = re.compile(r"/[!-~]*")
_LOOKS_LIKE_A_PATTERN: Final = re.compile(r"^\^|\$$|\.[*+]|\\|\[.*\]|\(\?|\(.*\|.*\)")
_METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "MKCALENDAR", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "M-SEARCH"),
    *("PURGE", "LINK", "UNLINK", "BIND", "REBIND", "UNBIND", "ACL", "MERGE", "CHECKOUT", "CHECKIN", "MKACTIVITY"),
    *("NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "SOURCE", "QUERY", "BAN", "UPDATE"),
)
_STATUS: Final = re.compile(r"([1-5][0-9]{2})(?: ?- ?([1-5][0-9]{2}))?")


def _restored(kind: "type[Model]", values: dict[str, Any]) -> "Model":
    """Return a pickled model: it has been validated before."""
    model = kind.__new__(kind)
    object.__setattr__(model, "__dict__", values)
    object.__setattr__(model, "__pydantic_fields_set__", set())
    object.__setattr__(model, "__pydantic_extra__", None)
    object.__setattr__(model, "__pydantic_private__", None)
    return model


class Model(BaseModel):
    """A mapping of the site file. `shorthand` is the schema of an alternative notation."""

    # What a site needs is built once, for all of its mappings, when the first is read: half of the start otherwise.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)
    shorthand: ClassVar[JsonSchemaValue | None] = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the values: a site of ten thousand routes is sent to every worker."""
        return _restored, (type(self), self.__dict__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the shorthand."""
        long = handler(schema)
        return {"anyOf": [cls.shorthand, long]} if cls.shorthand else long


@dataclass(frozen=True, slots=True)
class Given:
    """Marks an optional field: it may be omitted, but a key without a value is an error."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema without None."""
        schema: Any = handler(source)
        inner: CoreSchema = schema["schema"]
        return inner


@dataclass(frozen=True, slots=True)
class Some:
    """Marks a list that must not be empty."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate before the items: pydantic's own minimum does not count invalid items."""
        return core_schema.no_info_before_validator_function(self.some, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the minimum to the schema."""
        return {**handler(schema), "minItems": 1}

    @staticmethod
    def some(value: object) -> object:
        """Refuse an empty list."""
        if value in ([], ()):
            raise ValueError("expected at least one")
        return value


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """Marks a tuple that may also be written as a single value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap a single value."""
        return core_schema.no_info_before_validator_function(
            self.many, Some().__get_pydantic_core_schema__(source, handler)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allow either form."""
        array = handler(schema)
        return {"anyOf": [array["items"], {**array, "minItems": 1}]}

    @staticmethod
    def many(value: object) -> object:
        """Convert one value to a list of one."""
        return value if isinstance(value, (list, tuple)) else [value]


def text(value: object, what: str) -> str:
    """Return `value` if it is text; otherwise the error names what was expected."""
    if isinstance(value, str):
        return value
    raise ValueError(f"expected {what}, not {kind(value)}")


def _parsed(parse: Callable[[str], T], what: str) -> PlainValidator:
    """A validator that passes text to `parse`, and accepts values that were parsed before."""

    def validate(value: object) -> object:
        return value if _is_parsed(value) else parse(text(value, what))

    return PlainValidator(validate)


def _is_parsed(value: object) -> bool:
    return isinstance(value, _PARSED)


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A path to match: exactly, as a prefix, or by a regular expression."""

    path: str
    exact: bool
    regex: bool = False


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """The condition for a header, cookie or query parameter."""

    kind: Literal["is", "matches", "differs", "present", "absent"]
    text: str = ""


Conditions: TypeAlias = tuple[tuple[str, tuple[ValueMatch, ...]], ...]
"""Names, each with its accepted values."""


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Status codes from `low` to `high`, both included."""

    low: int
    high: int


_PARSED: Final = (address.Listen, address.Address, IPv4Network, IPv6Network, PathMatch, StatusRange, Expression)


def _path_match(value: str) -> PathMatch:
    if value.startswith("~* "):
        raise ValueError(f'upper and lower case alike is (?i) here: write "~ (?i){value[3:].lstrip()}"')
    if value.startswith("~"):
        expression = value[1:].lstrip(" ")
        _compiles(expression, len(value) - len(expression))
        return PathMatch(expression, exact=False, regex=True)
    exact = value.startswith("=")
    path = value[1:].lstrip(" ") if exact else value
    _not_meant(path)
    if not _PATH.fullmatch(path) or "?" in path or "#" in path:
        hint = f' (did you mean "/{path}"?)' if path and _PATH.fullmatch("/" + path) and "?" not in path else ""
        raise ValueError(f'expected a path prefix such as "/shop/", "= /exact" or "~ regular expression"{hint}')
    return PathMatch(path, exact)


def _not_meant(path: str) -> None:
    """Refuse what is no path but a pattern."""
    if path.startswith("!~"):
        raise ValueError('write the path in not: match: {not: {path: "~ …"}}')
    if path.startswith("^~"):
        raise ValueError(f'a path is the beginning of what it matches: write "{path[2:].lstrip()}"')
    if "://" in path:
        raise ValueError("a path has no scheme and host: write those in scheme and host, beside it")
    if path.startswith("/") and "?" in path:
        raise ValueError(f'a path has no query: write "{path.partition("?")[0]}", and the query in query, beside it')
    if _LOOKS_LIKE_A_PATTERN.search(path):
        raise ValueError(f'this looks like a regular expression: write "~ {path}"')
    if path.endswith("*"):
        raise ValueError(f'a path is the beginning of what it matches: write "{path.rstrip("*")}"')
    if "*" in path:
        pattern = path.replace("*", "[^/]*")
        raise ValueError(f'a path has no wildcards: write "~ ^{pattern}" for any text, "~ [*]" for a star')


def _entrance(value: object) -> object:
    if _is_parsed(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f'expected address:port such as 0.0.0.0:8080 (did you mean ":{value}"?)')  # noqa: TRY004 - pydantic takes ValueError
    return address.entrance(text(value, "address:port such as 0.0.0.0:8080, or unix:/path"))


def _compiles(expression: str, offset: int) -> None:
    """Refuse an invalid pattern; `offset` is its position within its value."""
    try:
        Pattern(expression)
    except Fault as fault:
        raise Fault(str(fault), offset=offset + fault.offset) from None


def _value_match(value: object) -> ValueMatch:
    if value is True:
        return ValueMatch("present")
    if value is False or value is None:
        return ValueMatch("absent")
    if isinstance(value, int):
        return ValueMatch("is", str(value))
    expected = text(value, "text, ~ and a regular expression, true (present) or false (absent)")
    if expected.startswith("~"):
        _compiles(expected[1:], 1)
        return ValueMatch("matches", expected[1:])
    if expected.startswith("!~"):
        _compiles(expected[2:], 2)
        return ValueMatch("differs", expected[2:])
    return ValueMatch("is", expected)


def _value_matches(names: re.Pattern[str], what: str) -> Callable[[object], Conditions]:
    """A validator for a mapping of names to accepted values."""

    def validate(value: object) -> Conditions:
        if isinstance(value, tuple):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"expected a mapping of {what}s to values, not {kind(value)}")  # noqa: TRY004 - pydantic takes ValueError
        if not value:
            raise ValueError(f"expected at least one {what} with its value")
        found = []
        for name, wanted in value.items():
            if not names.fullmatch(name):
                raise Fault(f"not the name of a {what}", name, key=True)
            items = []
            for i, item in enumerate(wanted if isinstance(wanted, list) else [wanted]):
                at = (name, i) if isinstance(wanted, list) else (name,)
                try:
                    items.append(_value_match(item))
                except ValueError as error:
                    raise Fault(str(error), *at, offset=getattr(error, "offset", 0)) from None
            if not items:
                raise Fault("expected at least one", name)
            found.append((name, tuple(items)))
        return tuple(found)

    return validate


def _host(value: object) -> str:
    host = text(value, "a host name").lower()
    if _HOST.fullmatch(host) and host != "_":
        return host
    if host in ("*", "_"):
        message = "omit host to match every host"
    elif host.startswith("~"):
        pattern = host[1:].lstrip("* ")
        message = f"a host is no regular expression: write when: 'host.matches(\"{pattern}\")'"
    elif host.startswith(".") and _HOST.fullmatch(host[1:]):
        message = f'write "*{host}" for every host below, and {host[1:]} beside it for that host itself'
    elif host.endswith(".*"):
        message = f"a star can only be at the beginning: write when: 'host.startsWith(\"{host[:-1]}\")'"
    elif "/" in host and (name := _HOST.match(host.rpartition("://")[2])):
        message = f"a host has no scheme and no path (did you mean {name[0]}?)"
    elif port := _HOST_WITH_PORT.fullmatch(host):
        message = f"a host is matched without its port (did you mean {port[1]}?)"
    elif not host.isascii():
        message = "write an internationalized host name in its xn-- form"
    else:
        message = 'expected a host such as www.example.com or "*.example.com"'
    raise ValueError(message)


def _status_range(value: object) -> object:
    if isinstance(value, StatusRange):
        return value
    match = _STATUS.fullmatch(str(value)) if isinstance(value, (int, str)) else None
    if match is None or (match[2] and match[2] < match[1]):
        raise ValueError('expected a status such as 200 or a range such as "200-299"')
    return StatusRange(int(match[1]), int(match[2] or match[1]))


def named(pattern: re.Pattern[str], what: str) -> AfterValidator:
    """A validator that refuses text that does not fully match `pattern`."""

    def validate(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return AfterValidator(validate)


def within(low: int, high: int) -> AfterValidator:
    """A validator for sizes from `low` to `high` bytes."""

    def validate(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"must be between {units.size_text(low)} and {units.size_text(high)}")
        return value

    return AfterValidator(validate)


def at_least(seconds: float) -> AfterValidator:
    """A validator for durations."""

    def validate(value: float) -> float:
        if value < seconds:
            shown = f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
            raise ValueError(f"must be at least {shown}")
        return value

    return AfterValidator(validate)


def _file(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        return value
    name = text(value, "the name of a file")
    if not name or not name.isprintable():
        raise ValueError("expected the name of a file")
    directory = (info.context or {}).get("directory")
    return directory / name if directory else Path(name)


def _file_mode(value: object) -> int:
    expected = 'permissions in quotes such as "0660"'
    mode = text(value, expected)
    if not re.fullmatch("0[0-7]{3}", mode):
        raise ValueError(f"expected {expected}")
    return int(mode, 8)


def header_value(value: str) -> str:
    """Refuse characters that would end a header line (RFC 9110 section 5.5) or be altered in it."""
    for index, char in enumerate(value):
        if not (" " <= char <= "~" or char == "\t"):
            what = "a line break" if char in "\r\n" else f"the character {char!r}"
            raise Fault(f"a header cannot contain {what}", offset=index)
    return value


def _method(value: str) -> str:
    """Refuse what is no method in capitals, and say what is meant."""
    if METHOD.fullmatch(value):
        return _known_method(value)
    names = [name for name in re.split("[ ,|]+", value.strip(" ()")) if name]
    if len(names) > 1 and all(METHOD.fullmatch(name.upper()) for name in names):
        raise ValueError(f"several methods are a list: write [{', '.join(names).upper()}]")
    hint = f" (did you mean {value.upper()}?)" if METHOD.fullmatch(value.upper()) else ""
    raise ValueError(f"a method is written in capitals, such as GET{hint}")


def _known_method(value: str) -> str:
    """Refuse a slip of the pen: no server would ever see the method meant."""
    if value not in _METHODS and (hint := suggest(value, _METHODS)):
        raise ValueError(f"there is no method {value}{hint}")
    return value


_DURATION_SCHEMA: Final = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$",
        "examples": ["250ms", "2s", "10m", "1h", "1d"],
    }
)

Text: TypeAlias = Annotated[str, Strict()]
Flag: TypeAlias = Annotated[bool, Strict()]
Whole: TypeAlias = Annotated[int, Strict()]

Duration: TypeAlias = Annotated[float, BeforeValidator(units.duration), _DURATION_SCHEMA]
"""Seconds."""
PositiveDuration: TypeAlias = Annotated[float, BeforeValidator(units.duration), at_least(0.001), _DURATION_SCHEMA]
Size: TypeAlias = Annotated[
    int,
    BeforeValidator(units.size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B|B)$"},
            ],
            "examples": ["500B", "16KiB", "1MiB"],
        }
    ),
]
"""Bytes."""
Rate: TypeAlias = Annotated[
    float,
    BeforeValidator(units.rate),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B|B)? ?/ ?[smh]$",
            "examples": ["500/s", "10KiB/s", "600/m"],
        }
    ),
]
"""Number, or bytes, per second."""
Share: TypeAlias = Annotated[
    float,
    BeforeValidator(units.share),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$", "examples": ["20%"]}),
]
"""From 0 to 1."""

Name: TypeAlias = Annotated[
    str,
    Strict(),
    named(NAME, "a name is 1 to 64 letters, digits and . _ : -"),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
]
ClassName: TypeAlias = Annotated[
    str,
    Strict(),
    named(NAME, "a class is 1 to 64 letters, digits and . _ : -"),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
]
FrontendName: TypeAlias = Annotated[
    str,
    Strict(),
    named(FRONTEND_NAME, "a name is 1 to 64 letters, digits and . _ : / - [ ]"),
    WithJsonSchema({"type": "string", "pattern": rf"^{FRONTEND_NAME.pattern}$"}),
]
HeaderName: TypeAlias = Annotated[str, Strict(), named(TOKEN, "not the name of a header")]
HeaderValue: TypeAlias = Annotated[str, Strict(), AfterValidator(header_value)]
Method: TypeAlias = Annotated[str, Strict(), AfterValidator(_method)]
CookieName: TypeAlias = Annotated[str, Strict(), named(TOKEN, "not the name of a cookie")]

File: TypeAlias = Annotated[Path, BeforeValidator(_file), WithJsonSchema({"type": "string"})]
"""Absolute after loading: relative names are relative to the site file."""

ListenField: TypeAlias = Annotated[
    address.Listen,
    _parsed(address.listen, "address:port such as 0.0.0.0:8080"),
    WithJsonSchema({"type": "string", "examples": ["0.0.0.0:8080", "[::]:443"]}),
]
EntranceField: TypeAlias = Annotated[
    address.Listen,
    PlainValidator(_entrance),
    WithJsonSchema({"type": "string", "examples": ["0.0.0.0:8080", "[::]:443", "unix:/run/gateway/http.sock"]}),
]
FileMode: TypeAlias = Annotated[
    int,
    BeforeValidator(_file_mode),
    WithJsonSchema({"type": "string", "pattern": "^0[0-7]{3}$", "examples": ["0660", "0666"]}),
]
"""Permissions as for chmod(2)."""
AddressField: TypeAlias = Annotated[
    address.Address,
    _parsed(address.server_address, "address:port such as 10.0.0.11:8080"),
    WithJsonSchema(
        {
            "type": "string",
            "examples": [
                *("10.0.0.11:8080", "app.internal:8080", "https://app.internal:8443", "dns:app.internal:8080"),
                "unix:/run/app.sock",
            ],
        }
    ),
]
TlsName: TypeAlias = Annotated[
    str,
    _parsed(address.tls_name, "a host name, an IP address or {host}"),
    WithJsonSchema({"type": "string", "examples": ["app.internal", "10.0.0.11", "{host}"]}),
]
"""What the certificate of a server must be for."""
NameServer: TypeAlias = Annotated[
    address.Listen,
    _parsed(address.name_server, "the address of a name server such as 10.0.0.2"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.2", "127.0.0.1:5353", "[2001:db8::53]:53"]}),
]
Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    _parsed(address.network, "an address range such as 10.0.0.0/8"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]}),
]
Proxy: TypeAlias = Annotated[
    IPv4Network | IPv6Network | str,
    _parsed(address.proxy, "an address range such as 10.0.0.0/8, or unix"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "unix"]}),
]
PathField: TypeAlias = Annotated[
    PathMatch,
    _parsed(_path_match, 'a path prefix such as "/shop/", "= /exact" or "~ regular expression"'),
    WithJsonSchema(
        {"type": "string", "pattern": "^((= *)?/|~)", "examples": ["/shop/", "= /exact", "~ ^/item/[0-9]+$"]}
    ),
]
ExpressionField: TypeAlias = Annotated[
    Expression,
    _parsed(lambda value: Expression(value, parse(value)), "an expression"),
    WithJsonSchema({"type": "string", "examples": ["load('app') < 0.8 && up('app') >= 2"]}),
]
Host: TypeAlias = Annotated[
    str,
    BeforeValidator(_host),
    WithJsonSchema({"type": "string", "examples": ["www.example.com", "*.example.com"]}),
]
StatusField: TypeAlias = Annotated[
    StatusRange,
    PlainValidator(_status_range),
    WithJsonSchema({"type": ["integer", "string"], "examples": [200, "200-299"]}),
]

_VALUE_SCHEMA: Final[dict[str, Any]] = {"type": ["string", "integer", "boolean", "null"]}
_VALUES_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1}]},
    "examples": [{"lang": "de", "debug": True, "mode": "~^(a|b)$"}],
}

HeaderMatches: TypeAlias = Annotated[
    Conditions, PlainValidator(_value_matches(TOKEN, "header")), WithJsonSchema(_VALUES_SCHEMA)
]
CookieMatches: TypeAlias = Annotated[
    Conditions, PlainValidator(_value_matches(TOKEN, "cookie")), WithJsonSchema(_VALUES_SCHEMA)
]
QueryMatches: TypeAlias = Annotated[
    Conditions, PlainValidator(_value_matches(PARAMETER, "parameter")), WithJsonSchema(_VALUES_SCHEMA)
]

"""Directives of Apache rules files other than mod_rewrite, as data: redirects, headers, variables, access, proxies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeAlias

from gateway.config.pattern import Pattern
from gateway.config.problem import Fault

Text: TypeAlias = tuple[Any, ...]
"""Parts of an expandable text; see apache.Part."""
Test: TypeAlias = tuple[Any, ...]
"""A tree: all, any, none (with items), not (an item), granted, denied, ip (networks), env (a name, whether it must be
absent), method (names), login (the users that may pass, as bytes; none: all of the file), compare, match, file, empty,
true."""


SERVERS_OWN: Final = frozenset(
    [
        "acceptfilter",
        "acceptpathinfo",
        "action",
        "addalt",
        "addaltbyencoding",
        "addaltbytype",
        "addcharset",
        "adddefaultcharset",
        "adddescription",
        "addencoding",
        "addhandler",
        "addicon",
        "addiconbyencoding",
        "addiconbytype",
        "addinputfilter",
        "addlanguage",
        "addoutputfilter",
        "addoutputfilterbytype",
        "addtype",
        "alias",
        "aliasmatch",
        "allowoverride",
        "allowoverridelist",
        "authbasicauthoritative",
        "brotlicompressionquality",
        "browsercachedefaults",
        "bufferedlogs",
        "cgimapextension",
        "charsetdefault",
        "charsetsourceenc",
        "checkcaseonly",
        "checkspelling",
        "contentdigest",
        "cookietracking",
        "customlog",
        "defaulticon",
        "defaultlanguage",
        "defaulttype",
        "deflatebuffersize",
        "deflatecompressionlevel",
        "deflatefilternote",
        "directoryindex",
        "directoryindexredirect",
        "directoryslash",
        "documentindex",
        "enablemmap",
        "enablesendfile",
        "errorlog",
        "errorlogformat",
        "expiresactive",
        "expiresbytype",
        "expiresdefault",
        "extendedstatus",
        "fallbackresource",
        "fcgidmaxrequestlen",
        "fileetag",
        "filterchain",
        "filterdeclare",
        "filterprovider",
        "forcelanguagepriority",
        "forcetype",
        "headername",
        "hostnamelookups",
        "indexheadinsert",
        "indexignore",
        "indexignorereset",
        "indexoptions",
        "indexorderdefault",
        "indexstylesheet",
        "keepalive",
        "keepalivetimeout",
        "languagepriority",
        "limitinternalrecursion",
        "limitrequestbody",
        "limitrequestfields",
        "limitrequestfieldsize",
        "limitrequestline",
        "limitxmlrequestbody",
        "listen",
        "loadmodule",
        "logformat",
        "loglevel",
        "maxkeepaliverequests",
        "metadir",
        "metafiles",
        "metasuffix",
        "mimemagicfile",
        "modmimeusepathinfo",
        "modpagespeed",
        "multiviewsmatch",
        "options",
        "passenv",
        "php_admin_flag",
        "php_admin_value",
        "php_flag",
        "php_value",
        "php5_flag",
        "php5_value",
        "protocols",
        "protocolshonororder",
        "proxyiobuffersize",
        "proxypreservehost",
        "proxyreceivebuffersize",
        "proxyrequests",
        "proxystatus",
        "proxytimeout",
        "proxyvia",
        "readmename",
        "removecharset",
        "removeencoding",
        "removehandler",
        "removeinputfilter",
        "removelanguage",
        "removeoutputfilter",
        "removetype",
        "rewritelog",
        "rewriteloglevel",
        "scriptalias",
        "scriptaliasmatch",
        "secfilterengine",
        "secfilterscanpost",
        "secrulesengine",
        "secruleengine",
        "serveradmin",
        "serverpath",
        "serversignature",
        "servertokens",
        "setinputfilter",
        "setoutputfilter",
        "sslcacertificatefile",
        "sslcertificatechainfile",
        "sslcertificatefile",
        "sslcertificatekeyfile",
        "sslciphersuite",
        "sslcompression",
        "sslengine",
        "sslhonorcipherorder",
        "sslopensslconfcmd",
        "ssloptions",
        "sslprotocol",
        "sslproxyengine",
        "sslproxyverify",
        "sslproxycheckpeercn",
        "sslproxycheckpeerexpire",
        "sslproxycheckpeername",
        "sslsessiontickets",
        "sslstaplingcache",
        "sslusestapling",
        "timeout",
        "traceenable",
        "transferlog",
        "typesconfig",
        "usecanonicalname",
        "usecanonicalphysicalport",
        "user",
        "group",
        "xbithack",
    ]
)
"""Directives for the server's own work: ignored, with a warning,"""
SERVERS_OWN_FAMILIES: Final = (
    *("ssl_", "pagespeed", "modpagespeed", "h2", "fcgid", "cgi", "suphp", "lsapi", "wsgi", "passenger", "perl"),
    *("opcache", "xsendfile", "dav", "brotli", "reqtimeout", "requestreadtimeout"),
)
"""and those whose names begin so."""
MODULES_NOT_HERE: Final = re.compile(
    r"mod_(?:fcgid|lsapi|php\d*|suphp|security\d?|pagespeed|wsgi|perl|passenger|jk|evasive\d*|lua|cgid?|dav|dav_fs)\.c"
)
"""What <IfModule> does not find: modules that run programs of a server, and some that would ask for more."""

LOGIN: Final = "users log in by AuthType Basic, AuthName, AuthUserFile, and Require valid-user or Require user NAME"
WAYS_OUT: Final = {
    "authgroupfile": "name the users of the group: Require user NAME …",
    "authdigestprovider": LOGIN,
    "authdigestdomain": LOGIN,
    "authdbmuserfile": "write the users to a file for AuthUserFile, by htpasswd",
    "authformprovider": LOGIN,
    "authmerging": "write all Require lines that apply in the inner section",
    "include": "name each file in an apache: route of its own",
    "includeoptional": "name each file in an apache: route of its own",
    "define": "write the value where it is used",
    "undefine": "write the value where it is used",
    "use": "write the lines of the macro where it is used",
    "rewriteoptions": "write the inherited rules in this file",
    "remoteipheader": "say trusted_proxies (and client_from) in the frontend, and leave it out here",
    "remoteipinternalproxy": "say trusted_proxies in the frontend, and leave it out here",
    "remoteiptrustedproxy": "say trusted_proxies in the frontend, and leave it out here",
    "proxyerroroverride": "say pages in the site file, and leave it out here",
    "balancermember": "name the servers in a backend of the site file",
    "proxyset": "say it of the backend in the site file",
    "substitute": "no body is changed here: leave it to the server",
    "sslrequiressl": "write match: {scheme: http} and respond: 403 in a route before",
    "sslrequire": "write a when: expression in a route before",
    "jkmount": "write ProxyPass PATH URL to the server's HTTP port",
    "sslverifyclient": "say client_ca in the frontend's tls",
    "limitrequest": "write a rate in a route",
    "mod_evasive": "write a rate in a route",
}
"""Directives that affect requests but are not supported, and the alternatives."""
OTHER_MAPS: Final = (
    "write its entries to a text file for txt:FILE, or by httxt2dbm -f SDBM -i TEXT -o FILE for dbm=sdbm:FILE"
)
MAPS_NOT_HERE: Final = {
    "dbd": "no database is asked while a request waits: write the result of the query to a text file for txt:FILE",
    "fastdbd": "no database is asked while a request waits: write the result of the query to a text file for txt:FILE",
}
"""Kinds of maps that are not supported, and the alternative."""
_STATUSES: Final = {"permanent": 301, "temp": 302, "seeother": 303, "gone": 410}


@dataclass(frozen=True, slots=True)
class Scope:
    """The requests that a section applies to.

    kind: file (a pattern for the last part of the path), path (for the URL's path), directory (for that of the file,
    which server rules may have changed), folder (for the name of the file), method (for the method), if (a tree);
    `negate`: for all others.
    """

    kind: str
    pattern: str = ""
    negate: bool = False
    test: Test = ()


@dataclass(frozen=True, slots=True)
class Login:
    """What a section says of how users log in: AuthName and AuthUserFile; None: what the sections around it say."""

    realm: str | None = None
    users: str | None = None

    def within(self, outer: "Login") -> "Login":
        """The same, with what only the sections around it say."""
        return Login(
            outer.realm if self.realm is None else self.realm, outer.users if self.users is None else self.users
        )


@dataclass(frozen=True, slots=True)
class Access:
    """Access rules of one section: by Require (`require`), or by Order (`order`, `allow`, `deny`); None: not set."""

    line: int
    scopes: tuple[Scope, ...]
    rank: tuple[int, int, int]
    require: Test | None
    order: str | None
    allow: tuple[Test, ...]
    deny: tuple[Test, ...]
    either: bool
    login: Login


@dataclass(frozen=True, slots=True)
class Moved:
    """A Redirect or RedirectMatch: `prefix`, or else a pattern; `to` is empty for a response without a target."""

    line: int
    scopes: tuple[Scope, ...]
    prefix: str | None
    pattern: str
    status: int
    to: Text


@dataclass(frozen=True, slots=True)
class FieldEdit:
    """A Header or RequestHeader. action: set, unset, add, append, merge, setifempty, edit, edit*."""

    line: int
    scopes: tuple[Scope, ...]
    response: bool
    always: bool
    action: str
    name: str
    value: Text
    replacement: Text = ()
    pattern: str = ""
    env: str = ""
    test: Test = ()

    @property
    def of_answer(self) -> bool:
        """Whether the test depends on the answer."""
        return _asks_answer(self.test)


@dataclass(frozen=True, slots=True)
class Variable:
    """A SetEnvIf, BrowserMatch or SetEnv: if `pattern` matches `of`, the variables are set; None unsets."""

    line: int
    scopes: tuple[Scope, ...]
    of: str
    pattern: str
    sets: tuple[tuple[str, Text | None], ...]
    ignore_case: bool = False
    of_names: bool = False
    """`of` is a pattern for names of fields."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The named groups of a section's pattern, as variables: by their numbers. kind: as in Scope."""

    line: int
    scopes: tuple[Scope, ...]
    kind: str
    pattern: str
    groups: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """A ProxyPass or ProxyPassMatch; `host` is None for "!"."""

    line: int
    prefix: str | None
    pattern: str
    host: str | None
    path: Text


@dataclass(slots=True)
class Directives:
    """The content of a file, in order."""

    access: list[Access] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    fields: list[FieldEdit] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    captured: list[Captured] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    located: list[Passed] = field(default_factory=list)
    """Those of <Location>, before the others."""
    documents: dict[int, str] = field(default_factory=dict)
    """By status, the argument of ErrorDocument: a text with a quote before it, or a URL."""

    def __bool__(self) -> bool:
        return bool(
            self.access
            or self.moved
            or self.fields
            or self.variables
            or self.captured
            or self.passed
            or self.located
            or self.documents
        )


def words(text: str) -> list[str]:
    """Split into arguments: words, or quoted texts, without the backslashes before quotes and backslashes."""
    found: list[str] = []
    rest = text.strip()
    while rest:
        if rest[0] in "\"'":
            match = re.match(r"([\"'])((?:(?!\1)[^\\]|\\.)*)\1(?=\s|$)", rest)
            if match is None:
                raise Fault("a quote is not closed")
            found.append(re.sub(rf"\\([\\{match[1]}])", r"\1", match[2]))
        else:
            match = re.match(r"(?:[^\s\\]|\\.|\\$)+", rest)
            if match is None:
                raise Fault("a quote is not closed")
            found.append(match[0].replace("\\\\", "\\") if "\\\\" in match[0] else match[0])
        rest = rest[match.end() :].strip()
    return found


def has_module(name: str) -> bool:
    """Whether <IfModule> finds a module: by its source file (mod_NAME.c), or by its identifier (NAME_module)."""
    lower = name.lower()
    source = f"mod_{lower.removesuffix('_module')}.c" if lower.endswith("_module") else lower
    return re.fullmatch(r"mod_\w+\.c", source) is not None and MODULES_NOT_HERE.fullmatch(source) is None


def has_version(version: tuple[int, int, int], asked: str) -> bool:
    """Whether <IfVersion> holds: [operator] version, or a pattern between slashes. Raises Fault."""
    match = re.fullmatch(r"(=|==|>|>=|<|<=|~)?\s*(\S+)", asked.strip())
    if match is None:
        raise Fault("<IfVersion> takes an operator and a version")
    sign, text = match[1] or "=", match[2]
    if sign == "~" or text.startswith("/"):
        return Pattern(text.strip("/")).search(".".join(map(str, version)).encode()) is not None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", text):
        raise Fault(f"{text} is no version")
    parts = [int(part) for part in text.split(".")]
    other = (*parts, *[0] * (3 - len(parts)))
    return {
        "=": version == other, "==": version == other, ">": version > other, ">=": version >= other,
        "<": version < other, "<=": version <= other,
    }[sign]  # fmt: skip


def expect(arguments: list[str], least: int, most: int) -> list[str]:
    """The arguments, if their number is right. Raises Fault."""
    if not least <= len(arguments) <= most:
        many = f"{least} to {most}" if least < most else str(least)
        raise Fault(f"takes {many} arguments, not {len(arguments)}")
    return arguments


def glob(pattern: str) -> str:
    """A pattern with * and ? as a regular expression for a whole text."""
    return "^" + translate(pattern).removeprefix("(?s:").removesuffix(r")\Z") + "$"


def below(prefix: str) -> str:
    """A regular expression for a path and everything below it."""
    if any(char in prefix for char in "*?["):
        return glob(prefix)[:-1] + "(/|$)"
    bare = prefix.rstrip("/")
    return "^" + re.escape(bare) + ("(/|$)" if not prefix.endswith("/") else "/")


def status_of(text: str) -> int | None:
    """The status for a keyword of Redirect; None: unknown."""
    if text.lower() in _STATUSES:
        return _STATUSES[text.lower()]
    return int(text) if re.fullmatch("[1-5][0-9]{2}", text) else None


def networks(items: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The arguments of Require ip and Allow from: addresses, networks, and prefixes such as 10.1. Raises Fault."""
    found = []
    for item in items:
        text = item
        if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}\.?", item):
            parts = item.rstrip(".").split(".")
            text = ".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}"
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            raise Fault(f"{item} is no address or network; names of clients are not looked up") from None
    return tuple(found)


def of_from(items: list[str]) -> Test:
    """The arguments of Allow from and Deny from."""
    tests: list[Test] = []
    addresses: list[str] = []
    for item in items:
        lower = item.lower()
        if lower == "all":
            tests.append(("granted",))
        elif lower.startswith("env="):
            name = item[4:]
            tests.append(("env", name.removeprefix("!"), name.startswith("!")))
        elif lower == "localhost":
            addresses += ["127.0.0.0/8", "::1"]
        else:
            addresses.append(item)
    if addresses:
        tests.append(("ip", networks(addresses)))
    return ("any", tuple(tests))


def asks_login(test: Test) -> bool:
    """Whether a tree depends on the user."""
    return any(part[:1] == ("login",) for part in names(test))


def _asks_answer(test: object) -> bool:
    if not isinstance(test, tuple):
        return False
    return test[:1] == ("answer",) or any(_asks_answer(item) for item in test)


def names(test: Test) -> Iterator[Any]:
    """Every subtree."""
    yield test
    for item in test[1:]:
        for inner in item if isinstance(item, tuple) else ():
            if isinstance(inner, tuple):
                yield from names(inner)

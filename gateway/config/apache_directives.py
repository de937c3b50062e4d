"""Directives of Apache rules files other than mod_rewrite, as data: redirects, headers, variables, access, proxies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeAlias

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
"""Directives for the server's own work: ignored, with a warning."""

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
    "proxypassreversecookiepath": "no cookie's path is changed here: let the server set the right one",
    "proxypassreversecookiedomain": "no cookie's domain is changed here: let the server set the right one",
    "substitute": "no body is changed here: leave it to the server",
    "sslrequiressl": "write match: {scheme: http} and respond: 403 in a route before",
    "sslrequire": "write a when: expression in a route before",
    "sslverifyclient": "say client_ca in the frontend's tls",
    "limitrequest": "write a rate in a route",
    "mod_evasive": "write a rate in a route",
}
"""Directives that affect requests but are not supported, and the alternatives."""
_STATUSES: Final = {"permanent": 301, "temp": 302, "seeother": 303, "gone": 410}


@dataclass(frozen=True, slots=True)
class Scope:
    """The requests that a section applies to.

    kind: file (a pattern for the last part of the path), path (for the path), method (for the method), if (a tree);
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


@dataclass(frozen=True, slots=True)
class Variable:
    """A SetEnvIf, BrowserMatch or SetEnv: if `pattern` matches `of`, the variables are set; None unsets."""

    line: int
    scopes: tuple[Scope, ...]
    of: str
    pattern: str
    sets: tuple[tuple[str, Text | None], ...]
    ignore_case: bool = False


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
    passed: list[Passed] = field(default_factory=list)
    documents: dict[int, str] = field(default_factory=dict)
    """By status, the argument of ErrorDocument: a text with a quote before it, or a URL."""

    def __bool__(self) -> bool:
        return bool(self.access or self.moved or self.fields or self.variables or self.passed or self.documents)


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


def names(test: Test) -> Iterator[Any]:
    """Every subtree."""
    yield test
    for item in test[1:]:
        for inner in item if isinstance(item, tuple) else ():
            if isinstance(inner, tuple):
                yield from names(inner)

"""Parser of Apache's rules files: mod_rewrite, and the directives of other modules that have a meaning here.

What only concerns a server's own work is left out, with a warning. Whatever else stands in such a file, and every flag,
variable or test without a meaning here, is an error with its line and a reason: nothing is left out silently. See
httpd.apache.org/docs/2.4/mod/.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config import apache_directives as directives
from gateway.config import apache_expression, sdbm
from gateway.config import apache_rewrite as rewrite
from gateway.config.apache_rules import Cond, Program, Rule, Rules, VirtualHost
from gateway.config.apache_text import FUNCTIONS, Part, expandable, maps_in, numbered
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault, is_plain_word, suggest

MAX_RULES: Final = 10_000

VERSION: Final = (2, 4, 71)
"""Of the Apache whose rules these are, for <IfVersion>."""

_SECTION: Final = re.compile(r"<(/?)(\w+)\s*(.*)>")


class ApacheError(Exception):
    """The problems of a file: (line, reason) for each."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"line {line}: {reason}" for line, reason in problems))


def parse(
    content: bytes, read: Callable[[str], bytes], shared: "Rules | None" = None, directory: Path = Path("/")
) -> Rules:
    """The rules of a file; `read` gives the content of a map's file, `shared` has the maps of the files before it;
    `directory`: of relative paths of programs.

    Raises ApacheError with all that is wrong.
    """
    reader = _Reader(read, directory)
    if shared is not None:
        reader.whole.maps, reader.whole.random = dict(shared.maps), set(shared.random)
    return reader.run(content.decode("latin-1"))


def files(content: bytes) -> Iterator[tuple[int, str]]:
    """The names of the map files in `content`, each with its line."""
    for number, line in _lines(content.decode("latin-1")):
        words = line.split()
        if len(words) >= 3 and words[0].lower() == "rewritemap":
            kind, _, where = words[2].strip("\"'").partition(":")
            if kind.lower() in ("txt", "rnd"):
                yield number, where
            elif kind.lower() in _SDBM:
                yield number, f"{where}.pag"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines (lines that end with a backslash are joined to the next), with the number of the first line."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        stripped = (joined + line).strip()
        if stripped and not stripped.startswith("#"):
            yield first, stripped
        joined, first = "", 0


@dataclass(slots=True)
class _Open:
    """A section that is still open. `items`: of one that groups Require; `inner`, `depth`: of a <Directory>."""

    name: str
    line: int
    skipped: bool = False
    scope: directives.Scope | None = None
    rank: int = 0
    depth: int = 0
    items: list[directives.Test] | None = None
    argument: str = ""
    regex: bool = False
    proxy: bool = False
    outer: Rules | None = None
    inner: Rules | None = None


@dataclass(slots=True)
class _Access:
    place: tuple[int, ...]
    """The lines at which the sections around begin."""
    scopes: tuple[directives.Scope, ...]
    rank: tuple[int, int, int]
    rules: Rules
    line: int = 0
    require: list[directives.Test] | None = None
    order: str | None = None
    allow: list[directives.Test] = field(default_factory=list)
    deny: list[directives.Test] = field(default_factory=list)
    satisfy: str | None = None
    login: dict[str, str] = field(default_factory=dict)
    """Values of AuthType, AuthName and AuthUserFile, by the directive in lower case."""

    @property
    def order_applied(self) -> str | None:
        """Those of a section replace all of the sections around it, so that Satisfy alone has the default beside it."""
        return self.order or ("deny,allow" if self.satisfy is not None else None)

    @property
    def may_refuse(self) -> bool:
        return bool(self.order or self.deny or self.asks_login or set(self.require or ()) - {("granted",)})

    @property
    def asks_login(self) -> bool:
        return self.require is not None and directives.asks_login(("any", tuple(self.require)))


class _Reader:
    def __init__(self, read: Callable[[str], bytes], place: Path) -> None:
        self.read = read
        self.path = place
        self.problems: list[tuple[int, str]] = []
        self.conds: list[Cond] = []
        self.sections: list[_Open] = []
        self.used: list[tuple[int, str, Rules]] = []
        self.whole = self.found = Rules()
        self.accesses: list[_Access] = []
        self.number = 0
        self.aliases: list[tuple[str, str]] = []
        self.ifs: dict[int, list[directives.Test]] = {}
        """The tests of the last <If> with its <ElseIf>s, by the number of sections around."""

    def run(self, text: str) -> Rules:
        number = 1
        self.aliases = [
            (found[1], found[2]) for found in map(directives.words, re.findall(r"(?im)^\s*(Alias\s.*)$", text))
            if len(found) == 3
        ]  # fmt: skip
        for number, line in _lines(text):
            try:
                self.line(number, line)
            except Fault as fault:
                self.problems.append((number, str(fault)))
        if self.sections:
            self.problems.append((number, f"<{self.sections[-1].name}> is not closed"))
        if self.conds:
            self.problems.append((number, "RewriteCond is not followed by a RewriteRule"))
        self.note_shared_maps()
        self._finish(self.whole)
        self.check_maps()
        self.check_logins()
        self.check_outside()
        for made in sorted(self.accesses, key=lambda made: made.rank):
            require = ("any", tuple(made.require)) if made.require is not None else None
            made.rules.other.access.append(
                directives.Access(
                    made.line, made.scopes, made.rank, require, made.order_applied, tuple(made.allow), tuple(made.deny),
                    made.satisfy == "any", directives.Login(made.login.get("authname"), made.login.get("authuserfile")),
                )
            )  # fmt: skip
        if self.problems:
            raise ApacheError(sorted(self.problems))
        return self.whole

    def _finish(self, rules: Rules) -> None:
        """The last RewriteEngine applies, also to the rules before it; hosts and directories know the maps around."""
        if not rules.enabled:
            rules.rules.clear()
        for host in rules.hosts:
            host.rules.random |= rules.random - host.rules.maps.keys()
            host.rules.maps = {**rules.maps, **host.rules.maps}
            self._finish(host.rules)
        for _, inner in rules.directories:
            inner.maps, inner.random = rules.maps, rules.random
            self._finish(inner)

    def note_shared_maps(self) -> None:
        shared = {
            (number, name)
            for number, name, rules in self.used
            if rules is not self.whole and name not in rules.maps and name in self.whole.maps
        }
        for number, name in sorted(shared):
            place = "here only if it stands in this <VirtualHost>, or by RewriteOptions Inherit"
            text = f"Apache finds RewriteMap {name} {place}"
            self.whole.warnings.append((number, text))

    def check_maps(self) -> None:
        """Every map that is used is declared in the same virtual host, outside of all, or in a file before."""
        for number, name, rules in self.used:
            if name not in rules.maps:
                self.problems.append((number, f"there is no RewriteMap {name}{suggest(name, rules.maps)}"))

    def line(self, number: int, line: str) -> None:
        self.number = number
        if section := _SECTION.fullmatch(line):
            self.section(number, *section.groups())
            return
        if any(section.skipped for section in self.sections):
            return
        name, _, rest = line.partition(" ") if " " in line.split("\t", maxsplit=1)[0] else line.partition("\t")
        if any(section.proxy for section in self.sections):
            if name.lower() in _OF_CLIENTS and not re.fullmatch(_FOR_ALL, " ".join(line.lower().split())):
                raise Fault(f"{name} in <Proxy> is not supported: write it in a <Location>")
            return
        match name.lower():
            case "rewriteoptions" if rest.strip().lower() in ("allownoslash", "allowanyuri") or "=" in rest:
                self.left_out(number, name)
            case word if word.startswith("rewrite") and any(
                item.scope and item.inner is None for item in self.sections
            ):
                raise Fault(
                    f"{name} in <{self.sections[-1].name}> is not supported: write a condition of the rule instead"
                )
            case _:
                self.directive(number, name, rest)

    def engine(self, _number: int, _name: str, rest: str) -> None:
        if rest.strip().lower() not in ("on", "off"):
            raise Fault("RewriteEngine must be on or off")
        self.place.enabled = rest.strip().lower() == "on"

    def base(self, _number: int, _name: str, rest: str) -> None:
        (self.place.base,) = rewrite.arguments(rest, 1, 1)
        if not self.place.base.startswith("/"):
            raise Fault("RewriteBase must begin with /")

    def left_out(self, number: int, name: str) -> None:
        self.whole.warnings.append((number, f"{name} is left out: it is about what the server does by itself"))

    def directive(self, number: int, name: str, rest: str) -> None:
        """Parse a directive of another module."""
        lower = name.lower()
        if lower in directives.SERVERS_OWN or lower.startswith(directives.SERVERS_OWN_FAMILIES):
            self.left_out(number, name)
            return
        make = _DIRECTIVES.get(lower)
        if make is None:
            way = directives.WAYS_OUT.get(
                lower, "if it is about what the server does by itself, take it out of this file"
            )
            # A file that was named by mistake may hold secrets: its lines are not quoted.
            raise Fault(f"{name if is_plain_word(name) else 'this line'} is not supported: {way}")
        make(self, number, lower, rest)

    @property
    def place(self) -> Rules:
        """The list to which mod_rewrite rules at this place belong."""
        inner = (section.inner for section in reversed(self.sections) if section.inner is not None)
        return next(inner, self.found)

    @property
    def scopes(self) -> tuple[directives.Scope, ...]:
        """The conditions of the sections around this line, outermost first."""
        return tuple(section.scope for section in self.sections if section.scope is not None)

    def section(self, number: int, closes: str, name: str, argument: str) -> None:
        lower = name.lower()
        if closes:
            if not self.sections or self.sections[-1].name.lower() != lower:
                raise Fault(f"</{name}> has no matching opening tag")
            self.close(self.sections.pop())
            for depth in [depth for depth in self.ifs if depth > len(self.sections)]:
                del self.ifs[depth]
            return
        opened = _Open(name, number)
        self.sections.append(opened)
        if any(section.skipped for section in self.sections):
            return
        words = directives.words(argument)
        try:
            self.open(opened, lower, words, argument)
        except Fault:
            opened.skipped = True  # its content could only be misinterpreted
            raise

    def open(self, opened: "_Open", lower: str, words: list[str], argument: str) -> None:
        """The meaning of a section for its lines."""
        if lower in ("ifmodule", "ifdefine", "ifversion", "ifdirective", "iffile"):
            opened.skipped = not self.applies(opened, lower, " ".join(words))
        elif lower in ("limit", "limitexcept"):
            methods = "|".join(re.escape(word.upper()) for word in words)
            methods = methods.replace("GET", "GET|HEAD")
            opened.scope = directives.Scope("method", f"^({methods})$", lower == "limitexcept")
        elif lower in ("files", "filesmatch"):
            opened.regex = lower == "filesmatch" or words[:1] == ["~"]
            opened.scope, opened.rank = self.matched("file", opened, words, directives.glob), 2
        elif lower in ("location", "locationmatch"):
            opened.regex = lower == "locationmatch" or words[:1] == ["~"]
            opened.scope, opened.rank = self.matched("path", opened, words, directives.below), 3
            opened.argument = words[-1]
        elif lower == "directorymatch" or (lower == "directory" and words[:1] == ["~"]):
            opened.regex = True
            opened.scope, opened.rank, opened.depth = self.matched("folder", opened, words, str), 1, _AFTER_ALL
            self.check_folder(words[-1])
        elif lower == "directory":
            self.directory(opened, words)
        elif lower == "virtualhost":
            self.host(opened, words)
        elif lower == "if":
            test = apache_expression.parse(
                " ".join(words) if argument.strip()[:1] in "\"'" else argument,
                lambda text: self.expandable(opened.line, text),
            )
            self.ifs[len(self.sections) - 1] = [test]
            opened.scope, opened.rank = directives.Scope("if", test=test), 4
        elif lower in ("elseif", "else"):
            self.otherwise(opened, " ".join(words) if argument.strip()[:1] in "\"'" else argument)
        elif lower in ("requireall", "requireany", "requirenone"):
            opened.items = []
        elif lower == "proxy":
            opened.proxy = True
            self.proxy(opened.line, " ".join(words))
        else:
            raise Fault(f"<{opened.name}> is not supported: select the file's requests with match in the site file")

    def proxy(self, number: int, what: str) -> None:
        """A <Proxy>, whose lines are about servers, which the site file has."""
        name = re.match("balancer://([^/]+)", what)
        text = f"the servers are those of the backend {name[1]}" if name else "the site file says it of the backend"
        self.whole.warnings.append((number, f"<Proxy> is left out: {text}"))

    def applies(self, opened: "_Open", lower: str, asked: str) -> bool:
        """Whether a section applies that asks for a module, a definition, a version, a directive or a file."""
        negate, name = asked.startswith("!"), asked.lstrip("!").strip()
        match lower:
            case "ifmodule":
                if not directives.has_module(name) and not negate:
                    self.whole.warnings.append((opened.line, f"<IfModule {name}> is left out: this module is not here"))
                return directives.has_module(name) != negate
            case "ifversion":
                return directives.has_version(VERSION, name) != negate
            case "ifdefine":
                return negate
            case _:
                return not negate

    def otherwise(self, opened: "_Open", argument: str) -> None:
        """<ElseIf> or <Else>."""
        before = self.ifs.get(len(self.sections) - 1)
        if before is None:
            raise Fault(f"<{opened.name}> follows no <If>")
        tests: list[directives.Test] = [("none", tuple(before))]
        if opened.name.lower() == "elseif":
            test = apache_expression.parse(argument, lambda text: self.expandable(opened.line, text))
            before.append(test)
            tests.append(test)
        opened.scope, opened.rank = directives.Scope("if", test=("all", tuple(tests))), 4

    def matched(self, kind: str, opened: "_Open", words: list[str], pattern: Callable[[str], str]) -> directives.Scope:
        """The requests of a section; the named groups of a regular expression become variables."""
        (text,) = directives.expect(words[1:] if words[:1] == ["~"] else words, 1, 1)
        made = text if opened.regex else pattern(text)
        names = Pattern(made, backtrack=True).names
        if opened.regex and names:
            groups = tuple((index, f"MATCH_{name.upper()}".encode("latin-1")) for name, index in names)
            captured = directives.Captured(opened.line, self.scopes, kind, made, groups)
            self.found.other.captured.append(captured)
        return directives.Scope(kind, made)

    def check_folder(self, pattern: str) -> None:
        """A pattern for names of files is for some below the document root."""
        prefix = Pattern(pattern, backtrack=True).prefix.decode("latin-1")
        if not self.root.startswith(prefix) and not prefix.startswith(self.root + "/"):
            raise Fault(
                f"<DirectoryMatch {pattern}> matches nothing below the DocumentRoot {self.root}: "
                "write DocumentRoot with the directory that it is for"
            )

    @property
    def root(self) -> str:
        """The document root that applies here."""
        return (self.found.document_root or self.whole.document_root or "/var/www/html").rstrip("/")

    def directory(self, opened: "_Open", words: list[str]) -> None:
        """A <Directory>: the URLs below it. Its mod_rewrite rules run in directory context."""
        (path,) = directives.expect(words, 1, 1)
        root = self.root
        opened.rank, opened.outer = 1, self.found
        url = self.url_below(path, root)
        if url is None:
            raise Fault(
                f"<Directory {path}> is not below the DocumentRoot {root}: no URL leads there; correct DocumentRoot"
            )
        if url != "/":
            opened.scope = directives.Scope("directory", directives.below(url.rstrip("/")))
        inner = Rules(document_root=root)
        opened.inner, opened.depth = inner, path.rstrip("/").count("/")
        self.found.directories.append((url, inner))

    def url_below(self, path: str, root: str) -> str | None:
        """The URL of a directory, by DocumentRoot and Alias; None: no URL leads there."""
        if path.rstrip("/*") in ("", root) or root.startswith(path.rstrip("/") + "/"):
            return "/"
        if path.startswith(root + "/"):
            return path[len(root) :].rstrip("/") + "/"
        for url, directory in self.aliases:
            if (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/"):
                return (url.rstrip("/") + path.rstrip("/")[len(directory.rstrip("/")) :]).rstrip("/") + "/"
        return None

    def host(self, opened: "_Open", words: list[str]) -> None:
        if self.found is not self.whole:
            raise Fault("<VirtualHost> stands in no other section")
        port = words[0].rpartition(":")[2] if words else ""
        inner = Rules()
        opened.outer, self.found = self.found, inner
        self.whole.hosts.append(VirtualHost(opened.line, int(port) if port.isdecimal() else 0, [], inner))

    def close(self, closed: "_Open") -> None:
        if closed.outer is not None and closed.inner is None:
            self.found = closed.outer
        if closed.items is not None:
            if not closed.items and not any(number > closed.line for number, _ in self.problems):
                raise Fault(f"<{closed.name}> is empty: write Require into it, or take it out")  # as Apache has it
            kind = closed.name.lower().removeprefix("require")
            if kind == "none" and directives.asks_login(("any", tuple(closed.items))):
                raise Fault(_NOT_NEGATED)
            self.required((kind, tuple(closed.items)))

    # Directives of other modules.

    def required(self, test: directives.Test) -> None:
        """Add to the enclosing section, or to the access rules of the scope."""
        for section in reversed(self.sections):
            if section.items is not None:
                section.items.append(test)
                return
        access = self.access()
        access.require = [*(access.require or ()), test]

    def access(self) -> "_Access":
        """The access rules of this section so far; another section for the same requests replaces them."""
        place = tuple(section.line for section in self.sections if section.rank or section.scope is not None)
        for made in self.accesses:
            if made.place == place and made.rules is self.found:
                return made
        rank = max((section.rank for section in self.sections), default=0)
        depth = max((section.depth for section in self.sections), default=0)
        made = _Access(place, self.scopes, (rank, depth, len(self.accesses)), self.found, self.number)
        self.accesses.append(made)
        return made

    def check_logins(self) -> None:
        """Where users are asked for, the file says how they log in.

        A section that applies to the same requests may say it, so that a place without it shows only with a request.
        """
        asking = [made for made in self.accesses if made.asks_login]
        for made in asking:
            known = {name for other in self.accesses if other.rules is made.rules for name in other.login}
            if missing := [name for name in _LOGIN if name.lower() not in known]:
                self.problems.append((made.line, f"there is no {' and no '.join(missing)}: {directives.LOGIN}"))

    def check_outside(self) -> None:
        """In a file with virtual hosts, only what stands in them counts; Apache adds the rest to each of them."""
        if not self.whole.hosts:
            return
        message = "this has no effect outside of <VirtualHost>: write it in each of them"
        other = self.whole.other
        wrong = [made.line for made in self.accesses if made.rules is self.whole and made.may_refuse]
        wrong += [moved.line for moved in other.moved] + [passed.line for passed in other.passed]
        useless = [edit.line for edit in other.fields] + [variable.line for variable in other.variables]
        self.problems += [(line, message) for line in wrong]
        self.whole.warnings += [(line, message) for line in useless]

    def login(self, _number: int, name: str, rest: str) -> None:
        """AuthType, AuthName, AuthUserFile or AuthBasicProvider."""
        (value,) = directives.expect(directives.words(rest), 1, 1)
        if name == "authtype" and value.lower() != "basic":
            raise Fault(f"AuthType {value} is not supported: {directives.LOGIN}")
        if name == "authbasicprovider":
            if value.lower() != "file":
                raise Fault(f"AuthBasicProvider {value} is not supported: {directives.LOGIN}")
            return
        if name == "authname" and not value.isprintable():
            raise Fault("AuthName has a control character")
        self.access().login[name] = value

    def require(self, number: int, _name: str, rest: str) -> None:
        words = directives.words(rest)
        negate = bool(words) and words[0].lower() == "not"
        kind, items = (words[negate] if len(words) > negate else "").lower(), words[negate + 1 :]
        test: directives.Test
        match kind:
            case "all" if len(items) == 1 and items[0].lower() in ("granted", "denied"):
                test = (items[0].lower(),)
            case "ip" if items:
                test = ("ip", directives.networks(items))
            case "local":
                test = ("ip", directives.networks(["127.0.0.0/8", "::1"]))
            case "env" if items:
                test = ("any", tuple(("env", item, False) for item in items))
            case "valid-user" | "user" if bool(items) == (kind == "user"):
                if negate:
                    raise Fault(_NOT_NEGATED)
                test = ("login", tuple(item.encode("latin-1") for item in items))
            case "method" if items:
                test = ("method", tuple(item.upper() for item in items))
            case "expr" if items:
                text = rest.split(None, 1 + negate)[1 + negate].strip()
                text = items[0] if text[:1] in "\"'" and len(items) == 1 else text
                test = apache_expression.parse(text, lambda text: self.expandable(number, text))
            case "host" | "forward-dns":
                raise Fault("Require host is not supported: names of clients are not looked up; write Require ip")
            case _:
                way = directives.WAYS_OUT["authgroupfile"] if kind.endswith("group") else directives.LOGIN
                raise Fault(f"Require {' '.join(words)} is not supported: {way}")
        self.required(("not", test) if negate else test)

    def order(self, _number: int, _name: str, rest: str) -> None:
        order = rest.replace(" ", "").lower()
        if order not in ("allow,deny", "deny,allow", "mutual-failure"):
            raise Fault("Order is Allow,Deny or Deny,Allow")
        self.access().order = "allow,deny" if order == "mutual-failure" else order

    def allow(self, _number: int, name: str, rest: str) -> None:
        words = directives.words(rest)
        if len(words) < 2 or words[0].lower() != "from":
            raise Fault(f"{name.capitalize()} is written with from")
        access = self.access()
        access.order = access.order or "deny,allow"
        (access.allow if name == "allow" else access.deny).append(directives.of_from(words[1:]))

    def satisfy(self, _number: int, _name: str, rest: str) -> None:
        word = rest.strip().lower()
        if word not in ("any", "all"):
            raise Fault("Satisfy is Any or All")
        self.access().satisfy = word

    def redirect(self, number: int, name: str, rest: str) -> None:
        words = directives.expect(directives.words(rest), 1, 3)
        status = 301 if name == "redirectpermanent" else 302
        if name in ("redirect", "redirectmatch") and (said := directives.status_of(words[0])) is not None:
            status, words = said, words[1:]
        location = next((scope for scope in reversed(self.scopes) if scope.kind == "path"), None)
        if location is not None and len(words) == (300 <= status <= 399):
            words = ["/", *words]
        directives.expect(words, 1 + (300 <= status <= 399), 1 + (300 <= status <= 399))
        regex = name == "redirectmatch"
        if regex:
            Pattern(words[0], backtrack=True)
        elif not words[0].startswith("/"):
            raise Fault(f"{words[0]} is no path: it begins with /")
        to = words[1] if len(words) > 1 else ""
        if to and not re.match(r"[A-Za-z][\w+.-]*:|/|%|\$", to):
            raise Fault(f"{to} is neither a URL nor a path that begins with /")
        parts = numbered(to) if regex else ((("text", to, (), None),) if to else ())
        prefix = None if regex else words[0]
        self.found.other.moved.append(directives.Moved(number, self.scopes, prefix, words[0], status, parts))

    def header(self, number: int, name: str, rest: str) -> None:
        words = directives.words(rest)
        response = name == "header"
        always = response and words[:1] != [] and words[0].lower() == "always"
        if words and words[0].lower() in ("always", "onsuccess"):
            words = words[1:]
        directives.expect(words, 2, 5)
        action, field_name, rest_of = words[0].lower(), words[1].rstrip(":"), words[2:]
        env = ""
        test: directives.Test = ()
        if field_name.lower() in _BY_ITSELF:
            text = f"{field_name} is left out: the gateway writes it by itself"
            self.whole.warnings.append((number, text))
            return
        if rest_of and rest_of[-1].lower() == "early":
            rest_of = rest_of[:-1]
        if len(rest_of) > (0 if action == "unset" else 2 if action.startswith("edit") else 1):
            condition = rest_of.pop()
            if condition.startswith("env="):
                env = condition[4:]
            elif condition.startswith("expr="):
                test = apache_expression.parse(
                    condition[5:], lambda text: self.expandable(number, text, of_answer=response)
                )
            else:
                raise Fault(f"{condition} is neither env=… nor expr=…")
        if action not in ("set", "unset", "add", "append", "merge", "setifempty", "edit", "edit*"):
            raise Fault(f"{name.capitalize()} {action} is not supported")
        many = {"unset": 0, "edit": 2, "edit*": 2}.get(action, 1)
        directives.expect(rest_of, many, many)
        if field_name.lower() in _NOT_OURS:
            raise Fault(f"{field_name} is written by the gateway: take this line out")
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", field_name):
            raise Fault(f"{field_name} is no name of a header field")
        pattern = ""
        value: directives.Text = ()
        replacement: directives.Text = ()
        if many == 2:
            pattern, replacement = rest_of[0], numbered(rest_of[1])
            Pattern(pattern, backtrack=True)
        elif many:
            value = self.formatted(number, rest_of[0])
        self.found.other.fields.append(
            directives.FieldEdit(
                number, self.scopes, response, always, action, field_name, value, replacement, pattern, env, test
            )
        )

    def formatted(self, number: int, text: str) -> tuple[Part, ...]:
        """Parse the value of a Header: %{NAME}e is a variable, and %% a percent sign."""
        if text.startswith("expr="):
            return self.expandable(number, text[5:])
        found: list[Part] = []
        for piece in re.split(r"(%(?:\{[^}]*\}.|.))", text):
            if piece == "%%":
                found.append(("text", "%", (), None))
            elif match := re.fullmatch(r"%\{([^}]*)\}e", piece):
                found.append(("env", match[1], (), None))
            elif piece.startswith("%"):
                raise Fault(f"{piece} is not supported in the value of a Header: only %{{NAME}}e and %% are")
            elif piece:
                found.append(("text", piece, (), None))
        return tuple(found)

    def variable(self, number: int, name: str, rest: str) -> None:
        words = directives.words(rest)
        ignore_case = name.endswith("nocase")
        if name in ("setenv", "unsetenv"):
            directives.expect(words, 1, 2 if name == "setenv" else 99)
            value = words[1] if len(words) > 1 else ""
            sets: list[tuple[str, directives.Text | None]] = [(word, None) for word in words]
            if name == "setenv":
                sets = [(words[0], (("text", value, (), None),))]
            self.found.other.variables.append(directives.Variable(number, self.scopes, "", "", tuple(sets)))
            return
        of = "User-Agent"
        if name.startswith("setenvif"):
            directives.expect(words, 3, 99)
            of, words = words[0], words[1:]
        directives.expect(words, 2, 99)
        pattern = words[0]
        assigned: list[tuple[str, directives.Text | None]] = []
        of_names = re.fullmatch(r"[\w-]+", of) is None  # as Apache finds out that it is a pattern
        if of_names:
            Pattern(of, ignore_case=ignore_case, backtrack=True)
        Pattern(pattern, ignore_case=ignore_case, backtrack=True)
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if key.startswith("!"):
                assigned.append((key[1:], None))
            else:
                assigned.append((key, numbered(value) if equals else (("text", "1", (), None),)))
        self.found.other.variables.append(
            directives.Variable(number, self.scopes, of, pattern, tuple(assigned), ignore_case, of_names)
        )

    def proxy_pass(self, number: int, name: str, rest: str) -> None:
        words = directives.words(rest)
        regex = name == "proxypassmatch"
        around = self.location(name)
        if around is not None:
            words, regex = [around.argument, *words], around.regex
        directives.expect(words, 2, 99)
        path, url = words[0], words[1]
        if regex:
            Pattern(path, backtrack=True)
        host, where = None, ""
        if url != "!":
            match = re.match(r"(?:https?|wss?|balancer|h2c?)://([^/$%?]+)(/.*)?$", url)
            if match is None:
                raise Fault(f"{url} is not supported: a backend, or the address of a server, as http://NAME/…")
            host, where = match[1], match[2] or ""
        parts = numbered(where) if regex else (("text", where, (), None),)
        made = directives.Passed(number, None if regex else path, path, host, parts)
        if around is None:
            self.found.other.passed.append(made)
        else:
            self.found.other.located.insert(0, made)  # the last section that applies decides

    def location(self, name: str) -> "_Open | None":
        """The <Location> around a directive that may stand in one, and in no other section."""
        around = [section for section in self.sections if section.scope is not None]
        if not around:
            return None
        if len(around) > 1 or around[0].scope is None or around[0].scope.kind != "path":
            raise Fault(f"{name} in <{around[-1].name}> is not supported: write ProxyPass PATH URL outside of it")
        return around[0]

    def proxy_reverse(self, number: int, name: str, rest: str) -> None:
        """ProxyPassReverse, and those for cookies: an edit of the answer's field."""
        words = directives.expect(directives.words(rest), 1, 3)
        cookie = name != "proxypassreverse"
        around = None if cookie else self.location("ProxyPassReverse")
        if around is not None:
            words = [around.argument, *words]
        if len(words) < 2 or (around is not None and around.regex):
            raise Fault(f"{name} takes a path and a URL here" if not cookie else "takes 2 arguments")
        if words[1].lower() == "interpolate":
            raise Fault("interpolate is not supported: write the value itself")
        parts: directives.Text
        if cookie:
            inside, outside = words[0], words[1]
            what = "path" if name.endswith("path") else "domain"
            end = "(.*)$" if what == "path" else r"(\s*(?:;.*)?)$"
            pattern = rf"(?i)^([^;]*(?:;[^;]*)*?;\s*{what}=){re.escape(inside)}{end}"
            parts = (("rule", "1", (), None), ("text", outside, (), None), ("rule", "2", (), None))
        else:
            url = re.escape(re.sub(r"^[a-z0-9]+://", "", words[1]).rstrip("/"))
            pattern = f"^(?:https?://)?{url}(?:/(.*))?$"
            parts = (("text", words[0].rstrip("/") + "/", (), None), ("rule", "1", (), None))
        self.found.other.fields.append(
            directives.FieldEdit(
                number,
                (),
                response=True,
                always=False,
                action="edit",
                name="Set-Cookie" if cookie else "Location",
                value=(),
                replacement=parts,
                pattern=pattern,
            )
        )

    def handler(self, number: int, _name: str, rest: str) -> None:
        """SetHandler: a server's programs are its own matter, a server behind it is not."""
        if re.match(r"proxy:(?!fcgi|unix|scgi|uwsgi|ajp)", rest.strip().strip("\"'").lower()):
            raise Fault("SetHandler proxy: is not supported: write ProxyPass PATH URL")
        self.left_out(number, "SetHandler")

    def encoded_slashes(self, _number: int, _name: str, rest: str) -> None:
        said = rest.strip().lower()
        if said not in ("on", "off", "nodecode"):
            raise Fault("AllowEncodedSlashes must be On, Off or NoDecode")
        self.found.encoded_slashes = said

    def document(self, number: int, _name: str, rest: str) -> None:
        status, _, what = rest.strip().partition(" ")
        what = what.strip()
        if not re.fullmatch("[45][0-9]{2}", status) or not what:
            raise Fault("ErrorDocument takes a status from 400 to 599, and a text or a URL")
        if what.startswith("/") or what.lower() == "default":
            self.whole.warnings.append(
                (
                    number,
                    f"ErrorDocument {status} is left out: for the gateway's own answers say pages in the site file",
                )
            )
            return
        if status == "401" and re.match("https?://", what):
            self.whole.warnings.append((number, "ErrorDocument 401 is left out: as in Apache, it takes no URL"))
            return
        text = what.startswith('"')
        if not text and not re.match("https?://", what):
            text = True
        self.found.other.documents[int(status)] = '"' + what.strip('"') if text else what

    def names(self, _number: int, name: str, rest: str) -> None:
        words = directives.words(rest)
        if name == "documentroot":
            self.found.document_root = directives.expect(words, 1, 1)[0].rstrip("/")
        elif self.whole.hosts and self.found is self.whole.hosts[-1].rules:
            found = (re.sub(r"^https?://", "", word).partition(":")[0].lower() for word in words)
            self.whole.hosts[-1].names += found

    def map(self, _number: int, _name: str, text: str) -> None:
        name, source, *options = rewrite.arguments(text, 2, 3)
        kind, _, where = source.partition(":")
        if options:
            raise Fault(
                f"take out {options[0]}: programs of maps run as the account that `user` of the site file names"
            )
        if kind.lower() == "prg":
            self.found.maps[name] = self.program(where)
            return
        if kind.lower() == "int":
            if where not in FUNCTIONS:
                raise Fault(f"there is no internal function {where}{suggest(where, FUNCTIONS)}")
            self.found.maps[name] = where
            return
        if kind.lower() in _SDBM:
            self.found.maps[name] = self.database(where)
            return
        if kind.lower() not in ("txt", "rnd"):
            way = directives.MAPS_NOT_HERE.get(kind.lower(), directives.OTHER_MAPS)
            raise Fault(f"maps are txt, rnd, dbm, prg or int, and this is {kind}: {way}")
        entries: dict[str, str] = {}
        for line in self.read(where).decode("latin-1").splitlines():
            words = line.split("#", 1)[0].split() if line.startswith("#") else line.split()
            if len(words) >= 2:
                entries.setdefault(words[0], words[1])
        self.found.maps[name] = entries
        if kind.lower() == "rnd":
            self.found.random.add(name)

    def program(self, where: str) -> Program:
        """The program of a map, by its path and its arguments."""
        words = directives.words(where)
        if not words:
            raise Fault("prg: takes the path of a program")
        return Program((str(self.path / words[0]), *words[1:]))

    def database(self, where: str) -> dict[str, str]:
        """The entries of a dbm map."""
        content = self.read(f"{where}.pag")
        try:
            found = {key.decode("latin-1"): value.decode("latin-1") for key, value in sdbm.pairs(content)}
        except ValueError:
            found = {}
        if not found:
            raise Fault(f"{where}.pag is no SDBM file with entries: {directives.OTHER_MAPS}")
        return found

    def cond(self, number: int, _name: str, text: str) -> None:
        arguments = rewrite.arguments(text, 2, 3)
        test, pattern = arguments[:2]
        flags = rewrite.parse_flags(arguments[2], rewrite.COND_FLAGS) if len(arguments) == 3 else {}
        if test == "expr":
            tree = apache_expression.parse(pattern, lambda text: self.expandable(number, text))
            common = {"negate": False, "ignore_case": False, "alternative": "OR" in flags}
            self.conds.append(Cond((), "expr", "", (), **common, expression=tree))
            return
        negate = pattern.startswith("!")
        kind, value, against = rewrite.comparison(
            pattern[negate:], lambda text: self.expandable(number, text), ignore_case="NC" in flags
        )
        parts = self.expandable(number, test)
        self.conds.append(Cond(parts, kind, value, against, negate, "NC" in flags, "OR" in flags))

    def rule(self, number: int, _name: str, text: str) -> None:
        conds, self.conds = tuple(self.conds), []
        arguments = rewrite.arguments(text, 2, 3)
        pattern, to = arguments[:2]
        environment: list[tuple[Part, ...]] = []
        cookies: list[tuple[Part, ...]] = []
        flags = rewrite.parse_flags(arguments[2], rewrite.RULE_FLAGS) if len(arguments) == 3 else {}
        for name, found in (("E", environment), ("CO", cookies)):
            found += [self.expandable(number, value) for value in flags.pop(name, "").split("\0") if value]
        rewrite.check_flags(flags, to)
        negate = pattern.startswith("!")
        Pattern(pattern[negate:], ignore_case="NC" in flags, backtrack=True)
        if len(self.place.rules) == MAX_RULES:
            raise Fault(f"more than {MAX_RULES} rules")
        parts = None if to == "-" else self.expandable(number, to)
        self.place.rules.append(
            Rule(number, pattern[negate:], negate, parts, flags, tuple(environment), tuple(cookies), conds)
        )

    def expandable(self, number: int, text: str, *, of_answer: bool = False) -> tuple[Part, ...]:
        parts = expandable(text, of_answer=of_answer)
        self.used += [(number, name, self.found) for name in maps_in(parts)]
        return parts


_OF_CLIENTS: Final = ("require", "order", "allow", "deny", "satisfy", "authtype", "authname", "authuserfile")
_FOR_ALL: Final = "require all granted|allow from all|order (deny, ?allow|allow, ?deny)"
_SDBM: Final = ("dbm", "dbm=sdbm")
_AFTER_ALL: Final = 1 << 20
"""Depth of a <DirectoryMatch>: it applies after every <Directory>."""
_LOGIN: Final = ("AuthType", "AuthName", "AuthUserFile")
_NOT_NEGATED: Final = "users can be named, not excluded: write Require user with those who may pass"
_NOT_OURS: Final = frozenset(["content-length", "transfer-encoding", "trailer", "expect", "http2-settings"])
"""Fields that only the gateway may write."""
_BY_ITSELF: Final = frozenset(
    [
        *("connection", "keep-alive", "te", "upgrade", "via"),
        *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"),
    ]
)
"""Fields of one connection, and of who asks how: the gateway writes them, whatever a file says."""
_DIRECTIVES: Final[Mapping[str, Callable[[_Reader, int, str, str], None]]] = {
    **dict.fromkeys(("redirect", "redirectmatch", "redirectpermanent", "redirecttemp"), _Reader.redirect),
    **dict.fromkeys(("header", "requestheader"), _Reader.header),
    **dict.fromkeys(
        ("setenvif", "setenvifnocase", "browsermatch", "browsermatchnocase", "setenv", "unsetenv"), _Reader.variable
    ),
    **dict.fromkeys(("allow", "deny"), _Reader.allow),
    **dict.fromkeys(("authtype", "authname", "authuserfile", "authbasicprovider"), _Reader.login),
    **dict.fromkeys(("proxypass", "proxypassmatch"), _Reader.proxy_pass),
    **dict.fromkeys(("servername", "serveralias", "documentroot"), _Reader.names),
    "order": _Reader.order,
    "satisfy": _Reader.satisfy,
    "require": _Reader.require,
    **dict.fromkeys(
        ("proxypassreverse", "proxypassreversecookiepath", "proxypassreversecookiedomain"), _Reader.proxy_reverse
    ),
    "rewriteengine": _Reader.engine,
    "rewritebase": _Reader.base,
    "rewritecond": _Reader.cond,
    "rewriterule": _Reader.rule,
    "rewritemap": _Reader.map,
    "sethandler": _Reader.handler,
    "allowencodedslashes": _Reader.encoded_slashes,
    "errordocument": _Reader.document,
}

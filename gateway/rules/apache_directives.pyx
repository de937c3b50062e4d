"""Directives of Apache's rules files other than mod_rewrite, in the order of Apache's phases.

In the context of a server: variables, rewriting, proxies or redirects, access, rewriting of directories, header fields.
In that of a directory: variables, access, rewriting, redirects, header fields; what was rewritten is looked at again.
"""

from urllib.parse import quote_from_bytes

from gateway.rules.actions cimport MAX_WHY, Respond, Step, answer, marked, rewrite
from gateway.rules.basic_auth cimport RequireLogin
from gateway.rules.view cimport IN_HEADER, Edits, View

from gateway.config.apache_directives import Login
from gateway.config.backtracking import TooManySteps
from gateway.config.pattern import Pattern
from gateway.rules.question import Unanswered, Unsettled
from gateway.rules.view import replaced
from gateway.wire.pages import page

PATH_SAFE = "/:@!$&'()*+,;=~-._"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"
HTTP_FIELDS = {"remote_addr", "remote_host", "server_addr", "request_method", "request_protocol", "request_uri"}

NO_LOGIN = Login()

cdef enum Held:
    H_NOT = 0
    H_PERHAPS               # a part of the path has the name, and may be a file followed by PATH_INFO
    H_YES


cdef class ApacheFile(Step):
    """other: a file's directives. rules: its ApacheRules, which knows files and expands texts; inner: those of its
    <Directory> sections, the longest first. targets: backends by name, for the hosts of ProxyPass. users: Logins by
    AuthUserFile."""
    cdef object other
    cdef object rules
    cdef list inner
    cdef dict targets
    cdef bint directory
    cdef bint knows_files           # `exists` lists the files
    cdef str name
    cdef bytes url                  # of the directory
    cdef object state
    cdef dict users
    cdef dict logins                # RequireLogin by Login
    cdef dict searches              # compiled patterns: by pattern and case sensitivity
    cdef set always                 # fields of the answer that Header always has changed, in lower case

    def __init__(self, other, rules, inner, targets, *, name, bint directory, base, bint knows_files, users):
        self.other = other
        self.rules = rules
        self.inner = inner
        self.targets = dict(targets)
        self.name = name
        self.text = f"apache {name}"
        self.directory = directory
        self.knows_files = knows_files
        self.url = (base.rstrip("/") + "/").encode("latin-1")
        self.state = rules.state
        for one in (rules, *[one for _, one in self.inner]):
            one.shared = True
        self.searches = {}
        self.always = set()
        self.users = dict(users)
        self.logins = {}

    cdef object run(self, View v):
        cdef object outcome
        try:
            outcome = self._phases(v)
        except TooManySteps:
            self.rules.give_up()
            outcome = answer(500, HTML, page(500))
            marked(outcome, self.name, 0, "a pattern exceeded the limit of matching steps")
        except Unanswered as missing:
            outcome = self.rules.unanswered(v, 0, str(missing))
        except Unsettled as needed:
            return needed.question
        return self._document(outcome)

    cdef object _phases(self, View v):
        cdef bytes path = self._path(v), before = path
        cdef object query = v.query()
        cdef object outcome = None, passed = None
        if self.directory and not path.startswith(self.url):
            return None
        self.state.begin(v.scheme == 2)
        self.state.uri = path
        self.always.clear()
        self._variables(v, path)
        self._fields(v, path, True)
        if self.directory:
            outcome = self._access(v, path)
            if outcome is not None:
                return outcome
            outcome = (<Step>self.rules).run(v)
            if type(outcome) is not Respond:
                path = self._path(v)
                passed, outcome = outcome, self._moved(v, before, query)
                self.state.uri = path
                if outcome is None and path != before:
                    self._variables(v, path)
                    outcome = self._access(v, path)
                    if outcome is None:
                        outcome = self._moved(v, path, v.query())
        else:
            outcome = (<Step>self.rules).run(v)
            if type(outcome) is not Respond:
                passed, outcome = outcome, None
                path = self._path(v)
                if not self.state.rewritten:
                    self.state.uri = path
                if passed is None and not self.state.rewritten:
                    passed = self._passed(v, path)
                    if passed is None:
                        outcome = self._moved(v, path, query)
                if outcome is None:
                    outcome = self._access(v, path)
                if outcome is None and passed is None:
                    outcome = self._directories(v)
                    if type(outcome) is not Respond:
                        if self._path(v) != path:
                            path = self.state.uri = self._path(v)
                        passed, outcome = outcome, self._access(v, path)
        if outcome is not None:
            return outcome
        self._fields(v, path, False)
        return None if passed is False else passed

    cdef object _directories(self, View v):
        """The rules of the longest directory that contains the path."""
        cdef bytes path = self._path(v)
        for url, rules in self.inner:
            if path.startswith(url):
                return (<Step>rules).run(v)
        return None

    cdef bytes _path(self, View v):
        return self.rules.decoded(v.path())

    # The requests that a directive applies to.

    cdef int _holds(self, View v, scopes, bytes path) except -1:
        cdef int held = H_YES
        for scope in scopes:
            if scope.kind == "if":
                found = self.rules.judge(v, scope.test, path)
            elif scope.kind == "method":
                found = self._search(scope.pattern, False)(v.method_now) is not None
            elif scope.kind != "file":
                found = self._search(scope.pattern, False)(self._subject(scope.kind, path)) is not None
            else:
                found = self._named(scope.pattern, path)
                if found == H_PERHAPS:
                    held = H_PERHAPS
            if bool(found) == scope.negate:
                return H_NOT
        return held

    cdef bytes _subject(self, str kind, bytes path):
        """What the pattern of a section is about."""
        if kind == "path":
            return self.state.uri
        if kind == "directory":
            return path
        path = self.rules.file_of(path)
        return path if kind == "folder" else path.rpartition(b"/")[2]

    cdef int _named(self, str pattern, bytes path) except -1:
        """Whether the file of a path has such a name."""
        cdef list parts
        search = self._search(pattern, False)
        if self.knows_files:
            path = self.rules.file_of(path)
        parts = path.split(b"/")
        if search(parts[len(parts) - 1]) is not None:
            return H_YES
        if not self.knows_files and any([part and search(part) is not None for part in parts]):
            return H_PERHAPS
        return H_NOT

    cdef object _search(self, str pattern, bint ignore_case):
        key = (pattern, ignore_case)
        found = self.searches.get(key)
        if found is None:
            found = Pattern(pattern, ignore_case=ignore_case, dot_all=True, backtrack=True).search
            self.searches[key] = found
        return found

    # The phases.

    cdef int _variables(self, View v, bytes path) except -1:
        environment = self.state.environment
        for item in self.other.captured:
            if self._holds(v, item.scopes, path) == H_YES:
                match = self._search(item.pattern, False)(self._subject(item.kind, path))
                for index, name in item.groups if match is not None else ():
                    value = match.group(index)
                    if value is not None:
                        environment[name] = value
        for item in self.other.variables:
            if self._holds(v, item.scopes, path) != H_YES:
                continue
            match = None
            if item.of:
                match = self._search(item.pattern, item.ignore_case)(
                    self._field_named(v, self._search(item.of, item.ignore_case)) if item.of_names
                    else self._attribute(v, item.of, path))
                if match is None:
                    continue
            if v.notes is not None and item.of:
                self._note(v, item.line, f"sets {' '.join([name for name, _ in item.sets])}")
            for name, parts in item.sets:
                key = name.encode("latin-1")
                if parts is None:
                    environment.pop(key, None)
                else:
                    environment[key] = self.rules.expand(v, parts, path, match)
        return 0

    cdef bytes _field_named(self, View v, search):
        """The last field of the request with a name that fits."""
        cdef int i
        cdef bytes found = b""
        for i in range(v.h.count):
            if not v.h.fields[i].drop and search(v.p[v.h.fields[i].name:v.h.fields[i].name + v.h.fields[i].name_len]):
                found = v.p[v.h.fields[i].value:v.h.fields[i].value + v.h.fields[i].value_len]
        return found

    cdef bytes _attribute(self, View v, str name, bytes path):
        """The subject of SetEnvIf: a property of the request, a header field, or else a variable."""
        lower = name.lower()
        if lower in HTTP_FIELDS:
            return self.rules.expand(v, (("var", name.upper() if lower != "request_protocol" else "SERVER_PROTOCOL", (),
                                          None),), path, None)
        values = v.values(IN_HEADER, lower.encode("latin-1"))
        if values:
            return b", ".join(values)
        return self.state.environment.get(name.encode("latin-1"), b"")

    cdef object _access(self, View v, bytes path):
        """None: access is granted; otherwise the response that refuses it, or a Login that is to be checked."""
        cdef int held
        cdef object required = None, ordered = None, outcome, login = NO_LOGIN
        for item in self.other.access:
            held = self._holds(v, item.scopes, path)
            if held == H_PERHAPS:
                outcome = self._entry(v, item, item, item.login.within(login), path)
                if outcome is not None:
                    return outcome
            if held != H_YES:
                continue
            if self.users:
                login = item.login.within(login)
            if item.require is not None:
                required = item
            if item.order is not None:
                ordered = item
        if required is None and ordered is None:
            return None
        return self._entry(v, required, ordered, login, path)

    cdef object _entry(self, View v, required, ordered, login, bytes path):
        """As _access, by the lines that apply. A user is only asked for if that can help, as in Apache."""
        cdef RequireLogin step
        cdef object outcome
        cdef int line = (ordered if ordered is not None else required).line
        cdef str why
        self.state.user = None
        if self._admits(v, required, ordered, path):
            return None
        if required is None or required.require is None or self.rules.judge(v, required.require, path):
            why = "Order, Allow and Deny refuse it"
        else:
            why = "Require refuses it"
            line = required.line
        if not self.users:
            return self._refused(v, line, why)
        self.state.any_user = True
        possible = self._admits(v, required, ordered, path)
        self.state.any_user = False
        if not possible:
            return self._refused(v, line, why)
        if login.realm is None or login.users is None:
            return self._refused(v, line, "no section that applies says how users log in", 500)
        step = self.logins.get(login)
        if step is None:
            step = self.logins[login] = RequireLogin(self.users[login.users], _as_text(login.realm))
        outcome = step.run(v)
        if outcome is None:
            self.state.user = v.user
            if self._admits(v, required, ordered, path):
                return None
            v.user = None
            outcome = step.refusal(v)
        if type(outcome) is Respond:
            marked(<Respond>outcome, self.name, line, "Require asks for a user that may pass")
            self._note(v, line, "asks for a user that may pass")
        return outcome

    cdef int _note(self, View v, int line, str text) except -1:
        """Note for explain what a line does, and why."""
        if v.notes is not None:
            v.notes.append((self.text, f"line {line}: {text}"))
        return 0

    cdef bint _admits(self, View v, required, ordered, bytes path) except -1:
        cdef bint by_require, by_order, allowed, denied
        by_require = required is None or required.require is None or self.rules.judge(v, required.require, path)
        if ordered is None or ordered.order is None:
            return by_require
        allowed = any([self.rules.judge(v, test, path) for test in ordered.allow])
        denied = any([self.rules.judge(v, test, path) for test in ordered.deny])
        by_order = (allowed or not denied) if ordered.order == "deny,allow" else (allowed and not denied)
        if ordered.either:
            return by_order or by_require
        return by_order and by_require

    cdef Respond _refused(self, View v, int line, str why, int status=403):
        self._note(v, line, f"answers with {status}: {why}")
        return marked(answer(status, HTML, page(status)), self.name, line, why)

    cdef object _moved(self, View v, bytes path, query):
        cdef Respond made
        cdef bytes to
        for item in self.other.moved:
            if self._holds(v, item.scopes, path) != H_YES:
                continue
            if item.prefix is not None:
                rest = _rest(path, item.prefix.encode("latin-1"))
                if rest is None:
                    continue
                to = self.rules.expand(v, item.to, path, None) + quote_from_bytes(rest, PATH_SAFE).encode()
            else:
                match = self._search(item.pattern, False)(path)
                if match is None:
                    continue
                to = quote_from_bytes(self.rules.expand(v, item.to, path, match), PATH_SAFE + "?#%").encode()
            if not 300 <= item.status <= 399:
                made = answer(item.status, HTML, page(item.status))
            else:
                if to.startswith(b"/"):
                    to = self.rules.site(v) + to
                if query and b"?" not in to:
                    to += b"?" + query
                if any([byte <= 32 or byte == 127 for byte in to]):
                    made = answer(403, HTML, page(403))
                else:
                    made = answer(item.status, b"Location: " + to + b"\r\n", b"")
            how = f"Redirect {item.prefix}" if item.prefix is not None else f"RedirectMatch {item.pattern}"
            marked(made, self.name, item.line, how[:MAX_WHY])
            self._note(v, item.line, f"answers with {made.status}" + (
                f", to {to.decode('latin-1')}" if 300 <= made.status <= 399 else ""))
            return made
        return None

    cdef object _passed(self, View v, bytes path):
        """The backend of the first ProxyPass that matches a path; False: excluded by "!"; None: no match."""
        for item in [*self.other.located, *self.other.passed]:
            if item.prefix is not None:
                rest = _rest(path, item.prefix.encode("latin-1"))
                if rest is None:
                    continue
                to = self.rules.expand(v, item.path, path, None) + rest
            else:
                match = self._search(item.pattern, False)(path)
                if match is None:
                    continue
                to = self.rules.expand(v, item.path, path, match)
                if not item.path or to == b"":
                    to = path
            if item.host is None:
                self._note(v, item.line, "this path is not passed on")
                return False
            self._note(v, item.line, f"passed on to {item.host}")
            if not to.startswith(b"/"):
                to = b"/" + to
            refused = rewrite(v, quote_from_bytes(to, PATH_SAFE).encode())
            return refused if refused is not None else self.targets[item.host]
        return None

    cdef int _fields(self, View v, bytes path, bint always) except -1:
        cdef Edits edits
        for item in self.other.fields:
            if item.always != always or self._holds(v, item.scopes, path) != H_YES or not self._wanted(v, item, path):
                continue
            edits = v.edits(item.response)
            name = item.name.encode("latin-1")
            if item.of_answer:
                edits = edits.when(name, self.rules.later(v, item.test, path))
            value = self.rules.expand(v, item.value, path, None) if item.value else b""
            if always and item.response:
                self.always.add(item.name.lower())
            elif item.response and item.action in ("set", "unset") and item.name.lower() in self.always:
                # Apache has two lists of fields, and these change the other one.
                if item.action == "set":
                    edits.append(name, value)
                continue
            if item.action == "set":
                edits.set(name, value)
            elif item.action == "unset":
                edits.set(name, None)
            elif item.action == "add" or (item.response and item.action in ("append", "merge")):
                edits.append(name, value)
            elif item.action == "setifempty" and item.response:
                edits.set_if_absent(name, value)
            elif item.response:
                edits.edit(name, self._search(item.pattern, False), _replacer(item.replacement), item.action == "edit*")
            else:
                self._edit(edits, v.values(IN_HEADER, name.lower()), item, name, value)
        return 0

    cdef int _edit(self, Edits edits, list values, item, bytes name, bytes value) except -1:
        """Change a field of the request, whose values are known."""
        if item.action == "setifempty":
            if not values:
                edits.set(name, value)
        elif item.action in ("append", "merge"):
            if item.action == "append" or value not in [word.strip() for word in b",".join(values).split(b",")]:
                edits.set(name, b", ".join([*values, value]))
        else:
            edits.set(name, None)
            search, replacement = self._search(item.pattern, False), _replacer(item.replacement)
            for one in values:
                edits.append(name, replaced(search, replacement, one, item.action == "edit*"))
        return 0

    cdef bint _wanted(self, View v, item, bytes path) except -1:
        if item.env:
            name, equals, value = item.env.partition("=")
            found = self.state.environment.get(name.removeprefix("!").encode("latin-1"))
            held = found == value.encode("latin-1") if equals else found is not None
            if held == name.startswith("!"):
                return False
        return not item.test or item.of_answer or self.rules.judge(v, item.test, path)

    cdef object _document(self, outcome):
        """The response that ErrorDocument sets in place of a page of the gateway."""
        cdef Respond made
        if type(outcome) is not Respond or outcome.status < 400:
            return outcome
        said = self.other.documents.get(outcome.status)
        if said is None:
            return outcome
        if said.startswith('"'):
            challenge = (<Respond>outcome).lines if outcome.status == 401 else b""
            made = answer(outcome.status, HTML + challenge, said[1:].encode())
        else:
            made = answer(302, b"Location: " + said.encode("latin-1", "replace") + b"\r\n", b"")
        made.rule = outcome.rule
        made.why = outcome.why
        return made


cdef class ApacheHosts(Step):
    """hosts: (names, port or 0, Step) of each <VirtualHost>; the first one with the port is the default."""
    cdef list hosts

    def __init__(self, hosts, *, name):
        self.hosts = list(hosts)
        self.text = f"apache {name}"

    cdef object run(self, View v):
        cdef object first = None
        host = v.host_now.decode("latin-1").lower().rstrip(".")
        port = _port(v)
        for names, wanted, step in self.hosts:
            if wanted and wanted != port:
                continue
            if host in names or any([name.startswith("*.") and host.endswith(name[1:]) for name in names]):
                return (<Step>step).run(v)
            if first is None:
                first = step
        return None if first is None else (<Step>first).run(v)


def _as_text(realm):
    """A name from a rules file, which is read byte by byte, as the UTF-8 that it most often is."""
    try:
        return realm.encode("latin-1").decode()
    except UnicodeDecodeError:
        return realm


def _replacer(parts):
    """The replacement of a match, for Edits.edit: a function of the match."""
    def replacement(match):
        return b"".join([text.encode("latin-1") if kind == "text" else match.group(int(text)) or b""
                         for kind, text, _, _ in parts])
    return replacement


cdef int _port(View v) except -1:
    cdef bytes rest = v.p[v.h.host + v.h.host_len:v.h.host + v.h.hostport_len]
    return int(rest[1:]) if len(rest) > 1 and rest[1:].isdigit() else 443 if v.scheme == 2 else 80


def _rest(bytes path, bytes prefix):
    """The rest of a path after a prefix that ends at a segment boundary; None: no match."""
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix):]
    return rest if not rest or prefix.endswith(b"/") or rest.startswith(b"/") else None

"""Rules of Apache's mod_rewrite, applied as Apache 2.4 does.

In server context the rules run once, on the whole path. In directory context (.htaccess) they run on the rest of the
path after the directory's prefix, and run again on the result until nothing changes, a rule with END matches, or
Apache's limit of ten rounds is reached. Paths are matched decoded, and are encoded again when they are forwarded.

The gateway has no files: a configured list answers file tests, and PATH_INFO is split off after a file of that list.
Directives that have no meaning here were refused when the file was read.
"""

import logging
import time
from functools import partial
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from libc.stdint cimport uint32_t

from gateway.rules.conditions cimport Condition
from gateway.rules.actions cimport MAX_WHY, Respond, Step, answer, marked, rewrite
from gateway.rules.question cimport ProgramQuestion
from gateway.rules.view cimport IN_HEADER, View, decoded

from gateway.config.apache_directives import glob
from gateway.config.apache_rules import Program, front_controllers
from gateway.config.apache_rules import target as host_of
from gateway.config.backtracking import TooManySteps
from gateway.config.pattern import Pattern
from gateway.process.map_questions import MAX_KEY
from gateway.rules.conditions import SourceIn
from gateway.rules.question import Unanswered, Unsettled
from gateway.wire.pages import page

log = logging.getLogger(__name__)

LOG_PERIOD = 10.0           # seconds between two log lines about patterns that were aborted

cdef enum:
    MAX_ROUNDS = 10         # as Apache's LimitInternalRecursion
    MAX_NEXT = 10000        # rounds by [N], unless the flag names a lower limit
    MAX_LENGTH = 16380      # of a path, as Apache's 2 * LimitRequestLine
    MAX_QUESTIONS = 32      # of one request

cdef enum Flag:
    RF_B = 1
    RF_BNP = 2
    RF_CHAIN = 4
    RF_END = 8
    RF_LAST = 16
    RF_NEXT = 32
    RF_NE = 64
    RF_PROXY = 128
    RF_QSA = 256
    RF_QSD = 512
    RF_QSL = 1024
    RF_REDIRECT = 2048
    RF_STATUS = 4096        # the response is a status; nothing is substituted
    RF_ALLOW_3F = 8192
    RF_PT = 16384
    RF_DPI = 32768

cdef enum Ending:
    E_UNCHANGED = 0
    E_CHANGED
    E_STATUS

NAMES = {"B": RF_B, "BNP": RF_BNP, "C": RF_CHAIN, "END": RF_END, "L": RF_LAST, "N": RF_NEXT, "NE": RF_NE, "P": RF_PROXY,
         "QSA": RF_QSA, "QSD": RF_QSD, "QSL": RF_QSL, "UNSAFEALLOW3F": RF_ALLOW_3F, "PT": RF_PT,
         "DPI": RF_DPI}
PATH_SAFE = "/:@!$&'()*+,;=~-._"
QUERY_SAFE = "/:@!$&'()*+,;=~-._?%"
HEADERS = {"HTTP_USER_AGENT": b"user-agent", "HTTP_REFERER": b"referer", "HTTP_COOKIE": b"cookie",
           "HTTP_FORWARDED": b"forwarded", "HTTP_HOST": b"host", "HTTP_PROXY_CONNECTION": b"proxy-connection",
           "HTTP_ACCEPT": b"accept"}
TIMES = {"TIME_YEAR": "%Y", "TIME_MON": "%m", "TIME_DAY": "%d", "TIME_HOUR": "%H", "TIME_MIN": "%M", "TIME_SEC": "%S",
         "TIME_WDAY": "%w", "TIME": "%Y%m%d%H%M%S"}
SCHEMES = (b"http://", b"https://", b"ftp://", b"ws://", b"wss://", b"balancer://", b"unix:", b"mailto:", b"gopher://",
           b"ldap://", b"ldaps://", b"news:", b"nntp://", b"ajp://", b"fcgi://", b"scgi://", b"uwsgi://", b"h2://",
           b"h2c://", b"ftps://", b"imap://", b"pop://")


cdef class Run:
    """The state of the rules while they process one request."""
    cdef View v
    cdef bytes path             # r->filename, decoded: in a directory with the document root; or an absolute URL
    cdef bytes info             # PATH_INFO
    cdef bytes seen             # REQUEST_URI: the path at the start of this round
    cdef object args            # bytes, or None
    cdef int status
    cdef bint raw               # [NE]: do not escape
    cdef object rule_match      # for $N; None: no groups
    cdef object cond_match      # for %N
    cdef dict environment
    cdef object target          # the backend of [P]
    cdef int question  # first question mark of a substitution: 0 none, 1 from the rule itself, 2 from a reference
    cdef int line               # of the current rule
    cdef int matched            # line of the last rule that matched; 0: none
    cdef str by                 # that rule in short
    cdef str why                # why the outcome is not what the rule says; None: it is
    cdef bint passed            # by [PT]: later directives may still apply
    cdef bint front             # a front controller handles the request
    cdef bint local             # the path or query has changed
    cdef bint inner             # this is the look-up of LA-U
    cdef tuple answer           # status of the answer and its fields, where they are known


cdef class ApacheState:
    """State of a request that the parts of a rules file share. environment: bytes by bytes; rewritten: the path was
    rewritten, without [PT], so that later parts skip it; uri: its path, decoded, which server rules leave as it is
    unless they have [PT]; user: that has logged in, None: none; any_user: judge as if the client had logged in as each
    user that is asked for."""
    cdef public dict environment
    cdef public bint rewritten
    cdef public bytes uri
    cdef public object user
    cdef public bint any_user

    def __init__(self):
        self.environment = {}

    def begin(self, bint https):
        """Forget the previous request."""
        self.environment = {b"HTTPS": b"on"} if https else {}
        self.rewritten = False
        self.uri = None
        self.user = None
        self.any_user = False


cdef class CompiledCond:
    cdef tuple expression
    cdef tuple test
    cdef str kind
    cdef str text
    cdef tuple against
    cdef bint negate, ignore_case, alternative
    cdef object search

    def __init__(self, cond):
        self.test = cond.test
        self.kind = cond.kind
        self.expression = cond.expression
        self.text = cond.text
        self.against = cond.against
        self.negate = cond.negate
        self.ignore_case = cond.ignore_case
        self.alternative = cond.alternative
        if cond.kind == "regex":
            self.search = Pattern(cond.text, ignore_case=cond.ignore_case, dot_all=True, backtrack=True).search


cdef class CompiledRule:
    cdef object search
    cdef bytes prefix           # a matching path begins with this, and
    cdef bytes needle           # contains this; b"": not known
    cdef bint negate
    cdef object to              # parts; None: no substitution
    cdef int flags
    cdef int status
    cdef int skip
    cdef int rounds
    cdef str escaped            # [B=…]: the characters to escape; None: all special ones
    cdef tuple environment, cookies, conds
    cdef object target
    cdef bytes type             # [T=…]; None: none
    cdef int line
    cdef str short              # for the log
    cdef bint front             # it leads to a front controller

    def __init__(self, rule, targets, front):
        flags = rule.flags
        pattern = Pattern(rule.pattern, ignore_case="NC" in flags, dot_all=True, backtrack=True)
        self.search = pattern.search
        self.prefix = b"" if rule.negate else pattern.prefix
        self.needle = b"" if rule.negate else pattern.needle
        self.negate = rule.negate
        self.to = rule.to
        self.status = 302
        for name in flags:
            self.flags |= NAMES.get(name, 0)
        if "R" in flags:
            self.status = int(flags["R"])
            self.flags |= RF_REDIRECT if 300 <= self.status <= 399 else RF_STATUS
        for name, status in (("F", 403), ("G", 410)):
            if name in flags:
                self.status = status
                self.flags |= RF_STATUS
        if self.flags & RF_STATUS:
            self.to = None
        self.skip = int(flags.get("S") or 0)
        self.rounds = min(int(flags.get("N") or MAX_NEXT), MAX_NEXT)
        self.escaped = flags.get("B") or None
        self.environment = rule.environment
        self.cookies = rule.cookies
        self.conds = tuple([CompiledCond(cond) for cond in rule.conds])
        host = host_of(rule)
        if host is not None:
            self.target = targets[host]
        self.type = flags["T"].encode("latin-1") if "T" in flags else None
        self.line = rule.line
        self.short = f"RewriteRule {'!' if rule.negate else ''}{rule.pattern}"[:MAX_WHY]
        self.front = front


cdef class ApacheRules(Step):
    """rules: a parsed file. targets: backends by name, for the host in the URL of [P]. directory: directory context.

    base: URL of the directory, unless the file sets it. exists: paths for file tests: "/a/" stands for a directory
    and everything below it, "/a" for a file. choose(n): a random number below n.
    """
    cdef str name               # name of the file
    cdef readonly ApacheState state
    cdef public bint shared     # part of an ApacheFile, which begins each request
    cdef str slashes            # AllowEncodedSlashes: off, on, nodecode
    cdef dict searches          # compiled patterns of expressions: by pattern and case sensitivity
    cdef dict sources           # SourceIn, by networks
    cdef list rules
    cdef dict maps
    cdef set random_maps
    cdef bint directory
    cdef bytes base             # URL of the directory, by RewriteBase
    cdef bytes where            # its file name, and its URL
    cdef bytes url
    cdef bytes document_root
    cdef double said            # when a pattern was last logged
    cdef frozenset exists
    cdef frozenset scripts      # front controllers that rules lead to: they exist even if `exists` is empty
    cdef tuple patterns         # of `exists`: each a search for a whole path
    cdef frozenset directories  # those, and the parents of all paths in `exists`
    cdef object choose

    def __init__(self, rules, targets, *, name, bint directory, base, document_root, exists, choose, state=None,
                 slashes="off"):
        fronts = front_controllers(rules.rules)
        self.rules = [CompiledRule(rule, targets, rule.line in fronts) for rule in rules.rules]
        self.maps = rules.maps
        self.random_maps = rules.random
        self.directory = directory
        self.url = (base.rstrip("/") + "/").encode("latin-1")
        self.base = self.url if rules.base is None else (rules.base.rstrip("/") + "/").encode("latin-1")
        self.document_root = document_root.rstrip("/").encode("latin-1")
        self.where = self.document_root + self.url
        self.said = -LOG_PERIOD
        self.patterns = tuple([Pattern(glob(name), dot_all=True).search for name in exists if "*" in name])
        exists = [name for name in exists if "*" not in name]
        self.exists = frozenset([name.encode("latin-1") for name in exists])
        self.directories = frozenset([name[:at + 1] for name in self.exists for at in range(len(name))
                                      if name[at] == c'/'])
        self.scripts = frozenset([self._path_of(name) for name in fronts.values()])
        self.choose = choose
        self.slashes = slashes
        self.name = name
        self.state = state or ApacheState()
        self.searches = {}
        self.sources = {}
        self.text = f"apache {name}"

    cdef bytes _path_of(self, str name):
        """The path of a script."""
        return name.encode("latin-1") if name.startswith("/") else self.base + name.encode("latin-1")

    cdef object run(self, View v):
        cdef Run r
        cdef bytes before = v.path()
        if not self.rules:
            return None
        if self.scripts:
            v.edits(False).set(b"X-Original-URL", None)     # servers behind such rules believe it
        if b"%2F" in before and self.slashes == "off":
            return self._refused(404, "AllowEncodedSlashes is off")
        r = Run.__new__(Run)
        r.v = v
        r.path = self.decoded(before)
        r.args = v.query()
        if not self.shared:
            self.state.begin(v.scheme == 2)
        r.environment = self.state.environment
        try:
            outcome = self._rounds(r)
            if type(outcome) is Respond and r.matched:
                marked(<Respond>outcome, self.name, r.matched, r.by if r.why is None else f"{r.by}: {r.why}")
            r.environment.pop(b"\0END", None)
            self.state.environment = r.environment
            self.state.rewritten = r.local and not r.passed
            return outcome
        except TooManySteps:
            self._given_up(r.line)
            return marked(failed(500), self.name, r.line, "a pattern exceeded the limit of matching steps")
        except Unanswered as missing:
            return self.unanswered(v, r.line, str(missing))
        except Unsettled as needed:
            if self.shared:
                raise               # what has the other directives begins again
            return needed.question

    def unanswered(self, View v, int line, str why):
        """The response if a program has not answered: Apache would wait. line: of the rule that asks; 0: unknown."""
        if v.notes is not None:
            v.notes.append((self.text, f"line {line}: answers with 503: {why}" if line else f"answers with 503: {why}"))
        return marked(failed(503), self.name, line, why)

    def decoded(self, bytes path):
        """A path in its normal form, decoded as AllowEncodedSlashes says."""
        if self.slashes == "nodecode":
            path = path.replace(b"%2F", b"%252F")
        return decoded(PyBytes_AS_STRING(path), <uint32_t>PyBytes_GET_SIZE(path), False)

    cdef Respond _refused(self, int status, str why):
        cdef Respond made = failed(status)
        made.why = why.encode("latin-1", "replace")
        return made

    def give_up(self):
        """Log that a pattern outside mod_rewrite was aborted."""
        self._given_up(0)

    cdef int _given_up(self, int line) except -1:
        cdef double now = time.monotonic()
        if now - self.said >= LOG_PERIOD:
            self.said = now
            log.error("%s: line %d: a pattern exceeded the limit of matching steps; status 500", self.text, line)
        return 0

    cdef object _rounds(self, Run r):
        cdef bytes old, first = r.path
        cdef object old_args, first_args = r.args
        cdef int ending, round
        if self.directory and not r.path.startswith(self.url):
            return None
        for round in range(MAX_ROUNDS + 1):
            if round == MAX_ROUNDS:
                r.why = f"the rules still change the path after {MAX_ROUNDS} rounds"
                return failed(500)
            r.status = 200
            r.raw = False
            r.target = None
            r.info = b""
            r.seen = r.path
            if self.directory:
                self._walk(r)
            old = r.path
            old_args = r.args
            ending = self._apply(r)
            if ending == E_STATUS:
                return failed(r.status)
            if ending == E_UNCHANGED:
                r.path = r.seen
                break
            if r.target is not None:
                return self._proxied(r)
            if absolute(r.path):
                return self._redirected(r, old_args)
            if not r.path.startswith(b"/"):
                r.why = "the result is no path"
                return failed(400)
            if not self.directory:
                if r.path.startswith(self.document_root + b"/"):
                    r.path = r.path[len(self.document_root):]
                break
            if r.path == old:
                r.path = r.seen
                break
            r.path = self._url_of(r.path)
            if not _escapes_well(r.path):
                r.why = "the result has an invalid escape"
                return failed(400)
            if self.slashes == "nodecode":
                r.path = r.path.replace(b"%2f", b"%2F").replace(b"%2F", b"%252F")
            r.path = _merged(unquote_to_bytes(r.path))
            if r.environment.pop(b"\0END", None) is not None or not r.path.startswith(self.url):
                break
            r.environment = {b"REDIRECT_" + name: value for name, value in r.environment.items()}
            r.environment[b"REDIRECT_STATUS"] = b"200"
        if r.path == first and r.args == first_args:
            return None
        r.local = True
        if r.front:
            r.v.edits(False).set(b"X-Original-URL", r.v.uri_now)
        return self._local(r.v, r)

    cdef int _walk(self, Run r) except -1:
        """Map the path to a file name: it ends with the first part that is not a directory; the rest is PATH_INFO."""
        cdef Py_ssize_t at
        cdef bytes path = r.path
        if self.exists or self.patterns:
            at = path.find(b"/", 1)
            while at >= 0:
                # Directories are known only from patterns.
                if (self._file("f", path[:at]) if self.patterns
                        else path[:at + 1] not in self.directories and not self._below(path[:at + 1])):
                    r.info = path[at:]
                    path = path[:at]
                    break
                at = path.find(b"/", at + 1)
        else:
            for script in self.scripts:
                if path.startswith(script + b"/"):
                    r.info = path[len(script):]
                    path = script
        r.path = self.document_root + path
        return 0

    cdef bytes _url_of(self, bytes name):
        """The URL path of a file name; a name outside the directory and the document root is already a URL path."""
        if name.startswith(self.where):
            return self.base + name[len(self.where):]
        if name.startswith(self.document_root + b"/"):
            return name[len(self.document_root):]
        return name

    cdef object _local(self, View v, Run r):
        if r.args and unprintable(r.args):
            r.why = "the query has a space or a control character"
            return failed(403)          # as Apache since 2.4.57
        cdef bytes target = quote_from_bytes(r.path, PATH_SAFE).encode()
        if self.slashes == "nodecode":
            target = target.replace(b"%252F", b"%2F")
        if r.args:
            target += b"?" + quote_from_bytes(r.args, QUERY_SAFE).encode()
        else:
            target += b"?"
        return rewrite(v, target)

    cdef object _proxied(self, Run r):
        """Choose the backend of a [P], with the path of its URL."""
        cdef bytes rest = r.path.split(b"://", 1)[1]
        cdef object refused
        r.path = b"/" + rest.partition(b"/")[2]
        refused = self._local(r.v, r)
        return r.target if refused is None else refused

    cdef object _redirected(self, Run r, old_args):
        cdef bytes url = r.path
        cdef object args = r.args
        if r.raw:
            if controls(url) or (args and controls(args)):
                r.why = "the URL has a control character"
                return failed(403)
            # Apache sends a space as it is.
            url = url.replace(b" ", b"%20")
            args = args and args.replace(b" ", b"%20")
        else:
            scheme, _, rest = url.partition(b"://")
            host, slash, path = rest.partition(b"/")
            url = scheme + b"://" + quote_from_bytes(host, ":@[]-._~").encode()
            url += slash + quote_from_bytes(path, PATH_SAFE).encode()
            if args and args != old_args:
                args = quote_from_bytes(args, "/:@!$&'()*+,;=~-._?").encode()
        if args is not None:
            url += b"?" + args
        return answer(r.status if 300 <= r.status <= 399 else 302, b"Location: " + url + b"\r\n", b"")

    cdef int _apply(self, Run r) except -1:
        """Run the list of rules once, and return the result."""
        cdef int i = 0, n = len(self.rules), next_rounds = 1, got
        cdef bint changed = False
        cdef CompiledRule rule
        while i < n:
            rule = <CompiledRule>self.rules[i]
            got = self._rule(r, rule)
            if got:
                r.matched = rule.line
                r.by = rule.short
                if r.v.notes is not None:
                    self._note(r, rule, got)
                if got == 3 or PyBytes_GET_SIZE(r.path) > MAX_LENGTH:
                    if got != 3:
                        r.status = 500
                        r.why = "the result is too long"
                    return E_STATUS
                if got == 1:
                    changed = True
                    r.raw = rule.flags & RF_NE != 0
                if rule.flags & RF_STATUS:
                    r.status = rule.status
                    return E_STATUS
                if rule.front:
                    r.front = True
                if rule.type is not None:
                    r.v.edits(True).set(b"Content-Type", rule.type)
                if rule.flags & RF_PT:
                    r.passed = True
                if rule.flags & RF_DPI:
                    r.info = b""
                if rule.flags & RF_END:
                    r.environment[b"\0END"] = True
                    break
                if rule.flags & (RF_PROXY | RF_LAST | RF_PT):
                    break
                if rule.flags & RF_NEXT:
                    next_rounds += 1
                    if next_rounds >= rule.rounds:
                        r.status = 500
                        r.why = f"[N] has begun {rule.rounds} rounds"
                        return E_STATUS
                    i = 0
                    continue
                i += rule.skip
            else:
                while i < n and (<CompiledRule>self.rules[i]).flags & RF_CHAIN:
                    i += 1
            i += 1
        return E_CHANGED if changed else E_UNCHANGED

    cdef int _note(self, Run r, CompiledRule rule, int got) except -1:
        """The effect of a matching rule, in readable form."""
        if rule.flags & RF_STATUS or got == 3:
            does = f"answers with {rule.status if got == 2 else r.status}"
        elif got == 2:
            does = "matches, and changes no path"
        else:
            query = b"" if r.args is None else b"?" + r.args
            does = f"now {(r.path + query).decode('latin-1')}"
        r.v.notes.append((self.text, f"line {rule.line}: {does}"))
        return 0

    cdef bytes _subject(self, Run r):
        """The text that patterns are matched against."""
        cdef bytes path = r.path + r.info
        return path[len(self.where):] if self.directory and path.startswith(self.where) else path

    cdef int _rule(self, Run r, CompiledRule rule) except -1:
        """0: no match; 1: substituted; 2: matched without substitution; 3: the response is r.status."""
        cdef bytes subject = self._subject(r)
        cdef bytes new
        cdef int question
        r.line = rule.line
        if rule.prefix:
            if not subject.startswith(rule.prefix):
                return 0
        elif rule.needle and rule.needle not in subject:
            return 0
        match = rule.search(subject)
        if (match is None) != rule.negate:
            return 0
        r.rule_match = None if rule.negate else match
        r.cond_match = None
        if rule.conds and not self._conds(r, rule):
            return 0
        r.question = 0
        new = self._expand(r, rule.to, rule) if rule.to is not None else None
        question = r.question
        for parts in rule.environment:
            self._set_environment(r, self._expand(r, parts, None))
        for parts in rule.cookies:
            if not self._cookie(r, self._expand(r, parts, None)):
                r.status = 400
                r.why = "the cookie has no name, or a control character"
                return 3
        if new is None:
            return 2
        if question == 2 and not rule.flags & RF_ALLOW_3F:
            r.status = 403              # as Apache since 2.4.60
            r.why = "an encoded question mark would begin a query"
            return 3
        self._substitute(r, rule, new)
        return 1

    cdef int _substitute(self, Run r, CompiledRule rule, bytes new) except -1:
        cdef bint is_absolute
        r.path = new
        self._split_query(r, rule.flags)
        is_absolute = absolute(r.path)
        if not r.path.startswith(b"/") and not is_absolute:
            if self.directory:
                r.path = self.where + r.path
            elif not rule.flags & (RF_PROXY | RF_REDIRECT):
                r.path = b"/" + r.path
        if rule.flags & RF_PROXY:
            r.target = rule.target
        elif rule.flags & RF_REDIRECT:
            if self.directory and not is_absolute:
                r.path = self._url_of(r.path)
            if not absolute(r.path):
                r.path = site_of(r.v) + (b"" if r.path.startswith(b"/") else b"/") + r.path
            r.status = rule.status
        elif is_absolute:
            r.path = reduced(r.v, r.path)
            if absolute(r.path):
                r.status = rule.status
        return 0

    cdef int _split_query(self, Run r, int flags) except -1:
        cdef bytes path, mark, query
        if absolute(r.path) and not r.path.startswith((b"http", b"ws", b"balancer", b"h2")):
            r.args = None
            return 0
        if flags & RF_QSD:
            r.args = None
        path, mark, query = r.path.rpartition(b"?") if flags & RF_QSL else r.path.partition(b"?")
        if not mark:
            if flags & RF_QSL:
                r.path = query
            return 0
        r.path = path
        if flags & RF_QSA:
            if query:
                r.args = query + b"&" + (r.args or b"")
        else:
            r.args = query
        if not r.args:
            r.args = None
        elif r.args.endswith(b"&"):
            r.args = r.args[:len(r.args) - 1]
        return 0

    cdef bint _conds(self, Run r, CompiledRule rule) except -1:
        cdef Py_ssize_t i = 0, n = len(rule.conds)
        cdef CompiledCond cond
        while i < n:
            cond = <CompiledCond>rule.conds[i]
            if self._cond(r, cond):
                while i < n and (<CompiledCond>rule.conds[i]).alternative:
                    i += 1
            elif not cond.alternative:
                return False
            i += 1
        return True

    cdef bint _cond(self, Run r, CompiledCond cond) except -1:
        cdef bytes value, other
        cdef bint holds
        if cond.kind == "expr":
            return self._judge(r, cond.expression)
        value = self._expand(r, cond.test, None)
        if cond.kind == "regex":
            match = cond.search(value)
            holds = match is not None
            if holds and not cond.negate:
                r.cond_match = match
        elif cond.kind == "file":
            holds = self._file(cond.text, value)
        else:
            other = self._expand(r, cond.against, None)
            if len(cond.kind) == 2:
                holds = _numbers(cond.kind, _atoi(value), _atoi(other))
            else:
                if cond.ignore_case:
                    holds = _compared(cond.kind, value.lower(), other.lower())
                elif cond.kind == "equal":
                    holds = value == other
                else:
                    # As Apache: the shorter text is less; texts of equal length compare by their characters.
                    holds = _compared(cond.kind, (len(value), value), (len(other), other))
        return holds != cond.negate

    cdef bint _file(self, str test, bytes name) except -1:
        """The result of a file test, by `exists`; tests for links, executables and sizes are always false."""
        cdef bytes path = _merged(name)
        if test not in ("f", "d", "s", "F", "U"):
            return False
        if self.document_root and path.startswith(self.document_root):
            path = path[len(self.document_root):] or b"/"
        if path == b"/" or path.rstrip(b"/") + b"/" in self.directories:
            return test != "f" and test != "s"
        if (path in self.exists or path in self.scripts) and not path.endswith(b"/"):
            return test != "d"
        if test == "d" or path.endswith(b"/"):
            return False
        return self._below(path)

    cdef bint _below(self, bytes path) except -1:
        """Whether a path is in a directory that `exists` includes with everything below it."""
        if any([search(path) is not None for search in self.patterns]):
            return True
        return any([entry.endswith(b"/") and path.startswith(entry) for entry in self.exists])

    cdef bytes _expand(self, Run r, parts, CompiledRule rule):
        """Expand references for this request; in a substitution they are escaped if flag B is set."""
        cdef list out = []
        cdef bytes value
        for kind, text, key, default in parts:
            if kind == "text":
                if r.question == 0 and "?" in text:
                    r.question = 1
                out.append(text.encode("latin-1"))
                continue
            if kind == "rule" or kind == "cond":
                value = _group(r.rule_match if kind == "rule" else r.cond_match, int(text))
                if rule is not None and rule.flags & RF_B:
                    value = _escaped(value, rule.escaped, rule.flags & RF_BNP != 0)
            elif kind == "map":
                value = self._map(r, text, self._expand(r, key, None), default)
            elif kind == "header":
                value = _header(r.v, text.lower().encode("latin-1"))
            elif kind == "env":
                value = r.environment.get(text.encode("latin-1"), b"")
            elif kind == "function":
                value = _converted(text, self._expand(r, key, None))
            elif kind == "answer":
                value = _of_answer(r.answer, text)
            else:
                value = self._variable(r, text)
            if r.question == 0 and b"?" in value:
                r.question = 2
            out.append(value)
        return b"".join(out)

    # For directives other than mod_rewrite.

    def expand(self, View v, parts, bytes path, match):
        """Expand a text for a request whose path is `path`, decoded; match: for $1 and so on."""
        return self._expand(self._asked(v, path, match), parts, None)

    def judge(self, View v, test, bytes path):
        """Evaluate a tree of access rules or of an expression (see config/apache_directives.py)."""
        return self._judge(self._asked(v, path, None), test)

    def later(self, View v, test, bytes path):
        """A function that evaluates a tree by the status and fields of the answer, when they are known."""
        return partial(self._judge_answer, self._bound(self._asked(v, path, None), test))

    def _judge_answer(self, test, int status, list fields):
        cdef Run r = Run.__new__(Run)
        r.answer = (status, fields)
        return self._judge(r, test)

    cdef tuple _bound(self, Run r, tuple test):
        """A tree in which only what depends on the answer is left open."""
        kind = test[0]
        if kind in ("any", "all", "none"):
            return (kind, tuple([self._bound(r, item) for item in test[1]]))
        if kind == "not":
            return ("not", self._bound(r, test[1]))
        if kind in ("empty", "true"):
            return (kind, self._bound_text(r, test[1]))
        if kind == "match":
            return (kind, test[1], test[2], self._bound_text(r, test[3]))
        if kind == "compare":
            return (kind, test[1], self._bound_text(r, test[2]), self._bound_text(r, test[3]))
        return ("granted",) if self._judge(r, test) else ("denied",)

    cdef tuple _bound_text(self, Run r, parts):
        made = []
        for part in parts:
            if part[0] == "function":
                made.append(("function", part[1], self._bound_text(r, part[2]), None))
            elif part[0] == "answer":
                made.append(part)
            else:
                made.append(("text", self._expand(r, (part,), None).decode("latin-1"), (), None))
        return tuple(made)

    def file_of(self, bytes path):
        """The file that a path names, according to `exists`: in the document root."""
        cdef Run r = Run.__new__(Run)
        r.path = path
        r.info = b""
        self._walk(r)
        return r.path

    def site(self, View v):
        """scheme://host[:port] of a request."""
        return site_of(v)

    cdef Run _asked(self, View v, bytes path, match):
        cdef Run r = Run.__new__(Run)
        r.v = v
        r.path = path
        r.seen = path if self.state.uri is None else self.state.uri
        r.info = b""
        if self.directory:
            self._walk(r)
        r.args = v.query()
        r.environment = self.state.environment
        r.rule_match = match
        return r

    cdef bint _judge(self, Run r, tuple test) except -1:
        kind = test[0]
        if kind == "granted" or kind == "denied":
            return kind == "granted"
        if kind == "any":
            return any([self._judge(r, item) for item in test[1]])
        if kind == "all":
            return all([self._judge(r, item) for item in test[1]])
        if kind == "none":
            return not any([self._judge(r, item) for item in test[1]])
        if kind == "not":
            return not self._judge(r, test[1])
        if kind == "ip":
            source = self.sources.get(test[1])
            if source is None:
                source = self.sources[test[1]] = SourceIn(test[1])
            return (<Condition>source).holds(r.v)
        if kind == "env":
            return (test[1].encode("latin-1") in r.environment) != test[2]
        if kind == "login":
            user = self.state.user
            return self.state.any_user or (user is not None and (not test[1] or user in test[1]))
        if kind == "method":
            return r.v.method_now.decode("latin-1") in test[1]
        if kind == "file":
            return self._file(test[1], self._expand(r, test[2], None))
        if kind == "empty":
            return not self._expand(r, test[1], None)
        if kind == "true":
            return self._expand(r, test[1], None).lower() not in (b"", b"0", b"off", b"false", b"no")
        if kind == "match":
            search = self.searches.get(test[1:3])
            if search is None:
                search = Pattern(test[1], ignore_case=test[2], dot_all=True, backtrack=True).search
                self.searches[test[1:3]] = search
            return search(self._expand(r, test[3], None)) is not None
        left, right = self._expand(r, test[2], None), self._expand(r, test[3], None)
        if len(test[1]) == 2:
            return _numbers(test[1], _atoi(left), _atoi(right))
        return _compared(test[1], left, right)

    cdef bytes _map(self, Run r, str name, bytes key, default):
        entries = self.maps[name]
        if isinstance(entries, str):
            return _converted(entries, key)
        if isinstance(entries, Program):
            told = self._told(r, name, entries.command, key)
            if told is not None:
                return told
            found = None
        else:
            found = entries.get(key.decode("latin-1"))
        if found is None:
            return self._expand(r, default, None) if default is not None else b""
        if name in self.random_maps:
            choices = found.split("|")
            found = choices[self.choose(len(choices))]
        return found.encode("latin-1")

    cdef object _told(self, Run r, str name, tuple command, bytes key):
        """What a program says of a key; None: it has no value. Raises Unsettled until it was asked, and Unanswered."""
        cdef dict settled = r.v.settled
        if b"\n" in key:
            return None                 # as Apache: the program would take it for two keys
        if len(key) > MAX_KEY:
            raise Unanswered(f"map {name}: its program is not asked for a key of {len(key)} bytes")
        if settled is None or (command, key) not in settled:
            if settled is not None and len(settled) >= MAX_QUESTIONS:
                raise Unanswered(f"map {name}: its program is asked for at most {MAX_QUESTIONS} keys of a request")
            raise Unsettled(ProgramQuestion(name, command, key))
        found = settled[command, key]
        if isinstance(found, str):
            raise Unanswered(f"map {name}: {found}")
        if r.v.notes is not None:
            said = "no value" if found is None else f'"{found.decode("latin-1")}"'
            how = "is not run here, and supposed to have" if r.v.reproducible else "has"
            r.v.notes.append((self.text, f'map {name}: its program {how} {said} for "{key.decode("latin-1")}"'))
        return found

    cdef bytes _variable(self, Run r, str name):
        cdef View v = r.v
        if name in HEADERS:
            return b", ".join(v.values(IN_HEADER, HEADERS[name]))
        if name == "REQUEST_URI":
            return r.seen
        if name == "QUERY_STRING":
            return r.args or b""
        if name == "HTTPS":
            return b"on" if v.scheme == 2 else b"off"
        if name == "REQUEST_SCHEME":
            return b"https" if v.scheme == 2 else b"http"
        if name == "REQUEST_FILENAME" or name == "SCRIPT_FILENAME":
            return r.path               # server rules run before Apache has mapped the path to a file name
        if name == "LA-F":
            return r.path if self.directory else self.document_root + r.path
        if name == "LA-U":
            return r.path if self.directory else self._looked_ahead(r)
        if name == "PATH_INFO":
            return r.info
        if name == "REQUEST_METHOD":
            return v.p[:v.h.method_len]
        if name == "REMOTE_ADDR" or name == "REMOTE_HOST":
            return v.client
        if name == "CONN_REMOTE_ADDR":
            return v.peer
        if name == "THE_REQUEST":
            return _first_line(v)
        if name == "SERVER_NAME":
            return v.host().lower().rstrip(b".")
        if name == "SERVER_ADDR":
            return v.provenance.local() if v.provenance is not None else b""
        if name == "SERVER_PORT":
            return _port(v)
        if name == "SERVER_PROTOCOL":
            return b"HTTP/2.0" if v.h.http2 else b"HTTP/1.1" if v.h.minor else b"HTTP/1.0"
        if name == "DOCUMENT_ROOT":
            return self.document_root
        if name == "IS_SUBREQ":
            return b"false"
        if name in TIMES:
            return time.strftime(TIMES[name], time.localtime(v.clock())).encode()
        return b""

    cdef bytes _looked_ahead(self, Run r):
        """The file name that a request of the path would have, as Apache finds out: by these rules, but for LA-U."""
        cdef Run other = Run.__new__(Run)
        if r.inner:
            return b""
        other.v = r.v
        other.path = other.seen = r.path
        other.args = r.args
        other.info = b""
        other.environment = dict(r.environment)
        other.inner = True
        notes, r.v.notes = r.v.notes, None
        try:
            if self._apply(other) == E_STATUS:
                return b""
        finally:
            r.v.notes = notes
        return other.path if other.path.startswith(self.document_root + b"/") else self.document_root + other.path

    cdef int _set_environment(self, Run r, bytes text) except -1:
        name, _, value = text.partition(b":")
        if name.startswith(b"!"):
            r.environment.pop(name[1:], None)
        else:
            r.environment[name] = value
        return 0

    cdef bint _cookie(self, Run r, bytes text) except -1:
        """Set the cookie that [CO=NAME:VALUE:DOMAIN[:MINUTES[:PATH[:SECURE[:HTTPONLY[:SAMESITE]]]]]] describes."""
        separator = b";" if text.startswith(b";") else b":"
        fields = text.lstrip(b";").split(separator) + [b""] * 8
        name, value, domain, minutes, path, secure, http_only, same_site = fields[:8]
        line = name + b"=" + value + b"; path=" + (path or b"/")
        if domain:
            line += b"; domain=" + domain
        if minutes.strip(b"-").isdigit() and int(minutes):
            line += b"; max-age=%d" % (int(minutes) * 60)
        if secure.lower() in (b"true", b"1", b"secure"):
            line += b"; secure"
        if http_only.lower() in (b"true", b"1", b"httponly"):
            line += b"; HttpOnly"
        if same_site and same_site.lower() not in (b"false", b"0"):
            line += b"; SameSite=" + same_site
        if not name or unprintable(line.replace(b" ", b"")):
            return False
        r.v.edits(True).append(b"Set-Cookie", line)
        return True


cdef Respond failed(int status):
    """A response with the status's default page."""
    return answer(status, b"Content-Type: text/html; charset=utf-8\r\n", page(status))


cdef bint absolute(bytes url) noexcept:
    """Whether this is a URL with one of the schemes that mod_rewrite knows."""
    cdef const char *p = PyBytes_AS_STRING(url)
    if PyBytes_GET_SIZE(url) == 0 or p[0] == c'/':
        return False
    return url[:12].lower().startswith(SCHEMES)


cdef bytes _port(View v):
    cdef bytes rest = v.p[v.h.host + v.h.host_len:v.h.host + v.h.hostport_len]
    return rest[1:] if len(rest) > 1 else b"443" if v.scheme == 2 else b"80"


cdef bytes site_of(View v):
    """scheme://host[:port] of the request."""
    cdef bytes port = _port(v)
    cdef bytes usual = b"443" if v.scheme == 2 else b"80"
    cdef bytes made = (b"https://" if v.scheme == 2 else b"http://") + v.host()
    return made if port == usual else made + b":" + port


cdef bytes reduced(View v, bytes url):
    """The path of a URL that points to this site itself; other URLs are unchanged."""
    cdef bytes scheme, rest, authority, path
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() != (b"https" if v.scheme == 2 else b"http"):
        return url
    authority, _, path = rest.partition(b"/")
    name, _, port = authority.partition(b":")
    if name.lower() != v.host().lower():
        return url
    if (port or (b"443" if v.scheme == 2 else b"80")) != _port(v):
        return url
    return b"/" + path


cdef bytes _header(View v, bytes name):
    """A header (name in lower case), as a server behind this gateway would see it."""
    if name == b"x-forwarded-proto":
        return b"https" if v.scheme == 2 else b"http"
    return b", ".join(v.values(IN_HEADER, name))


cdef bytes _merged(bytes path):
    """Collapse each run of slashes of a path to one."""
    while b"//" in path:
        path = path.replace(b"//", b"/")
    return path


cdef bint _escapes_well(bytes path) except -1:
    """Whether each percent sign of a path begins a valid escape, and none of them encodes a NUL."""
    cdef Py_ssize_t at = path.find(b"%")
    while at >= 0:
        code = path[at + 1:at + 3]
        if len(code) < 2 or code == b"00" or not code.isalnum() or code.lower().strip(b"0123456789abcdef"):
            return False
        at = path.find(b"%", at + 1)
    return True


cdef bytes _first_line(View v):
    cdef uint32_t end = 0
    while v.p[end] != c'\r':
        end += 1
    return PyBytes_FromStringAndSize(v.p, end)


cdef bytes _converted(str function, bytes text):
    """The result of an internal function."""
    if function == "toupper":
        return text.upper()
    if function == "tolower":
        return text.lower()
    if function == "escape":
        return quote_from_bytes(text, "/:@!$&'()*+,;=~-._").encode()
    return unquote_to_bytes(text)


cdef bytes _of_answer(tuple known, str name):
    """The status of an answer, or a field of it: name in lower case."""
    if known is None:
        return b""
    status, fields = known
    if name == "status":
        return b"%d" % status
    wanted = name.encode("latin-1")
    return b", ".join([field[1] if field[2] is None else field[2] for field in fields if field[0] == wanted])


cdef bytes _group(match, int index):
    if match is None:
        return b""
    try:
        return match.group(index) or b""
    except IndexError:
        return b""


cdef bytes _escaped(bytes value, str special, bint plain_space):
    """Escape a reference as flag B requires: all but letters, digits and underscores, or only the characters named."""
    cdef Py_ssize_t i
    cdef int c
    cdef bytes named = None if special is None else special.encode("latin-1")
    out = bytearray()
    for i in range(PyBytes_GET_SIZE(value)):
        c = <unsigned char>PyBytes_AS_STRING(value)[i]
        if named is not None:
            kept = not bytes((c,)) in named
        else:
            kept = c'0' <= c <= c'9' or c'A' <= c <= c'Z' or c'a' <= c <= c'z' or c == c'_'
        if kept:
            out.append(c)
        elif c == c' ' and named is None and not plain_space:
            out.append(43)
        else:
            out += b"%%%02X" % c
    return bytes(out)


cdef bint controls(bytes text) noexcept:
    """Whether there is a control character."""
    cdef Py_ssize_t i
    cdef unsigned char c
    for i in range(PyBytes_GET_SIZE(text)):
        c = <unsigned char>PyBytes_AS_STRING(text)[i]
        if c < 32 or c == 127:
            return True
    return False


cdef bint unprintable(bytes text) noexcept:
    """Whether there is a space or a control character."""
    cdef Py_ssize_t i
    cdef unsigned char c
    for i in range(PyBytes_GET_SIZE(text)):
        c = <unsigned char>PyBytes_AS_STRING(text)[i]
        if c <= 32 or c == 127:
            return True
    return False


def _compared(kind, left, right):
    return {"equal": left == right, "less": left < right, "more": left > right, "at_most": left <= right,
            "at_least": left >= right}[kind]


def _numbers(kind, left, right):
    return {"eq": left == right, "ne": left != right, "lt": left < right, "le": left <= right, "gt": left > right,
            "ge": left >= right}[kind]


def _atoi(value):
    """As C's atoi: the number at the beginning of a text, or 0."""
    text = value.strip()
    sign = text[:1] if text[:1] in (b"-", b"+") else b""
    digits = text[len(sign):len(sign) + 18]
    end = 0
    while end < len(digits) and c'0' <= digits[end] <= c'9':
        end += 1
    return int(sign + digits[:end]) if end else 0

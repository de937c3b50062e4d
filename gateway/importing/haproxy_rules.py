"""Rules of HAProxy (http-request, http-response, redirect) as routes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.importing import units
from gateway.importing.draft import Draft, name_of
from gateway.importing.haproxy_conditions import Case, Conditions, Rate, User
from gateway.importing.haproxy_lines import Section, Statement
from gateway.importing.haproxy_text import Texts, calls, field_of
from gateway.importing.matches import Match, both, negated
from gateway.importing.patterns import with_names
from gateway.importing.report import MISFITS, Line, NotPossible, reason

OURS: Final = frozenset(
    [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-request-id",
        "via",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""Headers that the gateway alone writes."""
_INSTEAD: Final = {
    "set-var": "variables do not exist: repeat the condition, or give the requests a class",
    "set-method": "methods are not changed: let the servers do it",
    "set-log-level": "the access log has all requests; `gateway logs` filters them",
    "capture": "write header:NAME in access_log: format",
    "cache-use": "answers are not cached: put a cache behind the gateway",
    "use-service": "Prometheus reads /metrics of `admin: listen`",
    "lua": "write a rule in Python (docs/rules.md)",
    "set-nice": "see qos: classes with priority",
    "set-src": "see trusted_proxies and client_from of a frontend",
    "replace-header": "values are replaced whole: set_header, with a match on the header",
    "replace-value": "values are replaced whole: set_header, with a match on the header",
    "set-status": "statuses of servers are not changed",
    "reject": "see close, or qos: classes with admit: never",
    "wait-for-body": "bodies are streamed",
    "set-map": "maps are files: change the file, it is taken up at once",
}


def split_condition(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of an action, and those of its condition, with `if` or `unless`."""
    for at, word in enumerate(words):
        if word in ("if", "unless"):
            return words[:at], words[at:]
    return words, []


def options(words: list[str], flags: frozenset[str] = frozenset()) -> dict[str, str]:
    """Words as NAME VALUE pairs; flags have no value. Raises NotPossible for a name without its value."""
    found: dict[str, str] = {}
    rest = iter(words)
    for name in rest:
        value = "" if name in flags else next(rest, None)
        if value is None:
            raise NotPossible(f"{name} has no value")
        found[name] = value
    return found


@dataclass(slots=True)
class Table:
    """A stick-table: the period that it measures rates over, and the key that requests are counted by."""

    seconds: float
    per: str = "source"


class Rules:
    """The rules of the sections of a configuration."""

    def __init__(self, draft: Draft, texts: Texts) -> None:
        self.draft = draft
        self.texts = texts
        self.tables: dict[str, Table] = {}
        self._tracked: dict[tuple[str, str], str] = {}
        """Names of the tables by section and number of the counter (track-sc0: 0)."""
        self.users: dict[str, list[str]] = {}
        """Names of the users of each userlist; its file is in the draft."""

    def add(self, statement: Statement, base: Match, conditions: Conditions, section: Section) -> None:
        """Add the routes of a rule for requests of `base`, and say what became of it."""
        words, condition = split_condition(statement.arguments)
        if statement.keyword == "redirect":
            words = ["redirect", *words]
        action, *arguments = words or [""]
        report = self.draft.report
        self.draft.at = statement.line
        try:
            if action.startswith("track-sc"):
                self._track(action.removeprefix("track-sc"), arguments, section.name, statement.line)
                return
            made = self._handler(statement.keyword, action)(arguments, statement.line)
            for case in conditions.cases(condition):
                self._add_case(made, case, base, _Place(statement, action, section.name))
            report.taken(statement.line)
            if statement.keyword == "http-after-response":
                report.approximated(statement.line, "not for the gateway's own error pages, such as 401, 413 and 503")
        except MISFITS as why:
            report.impossible(statement.line, f"{reason(why)}; the rule is left out")

    def _handler(self, keyword: str, action: str) -> Callable[[list[str], Line], dict[str, Any]]:
        name = action.replace("-", "_")
        name = {"redirect": "redirect", "silent_drop": "drop", "return": "answer"}.get(name, name)
        kind = "_of_response" if keyword in ("http-response", "http-after-response") else "_do"
        found: Callable[[list[str], Line], dict[str, Any]] | None = getattr(self, f"{kind}_{name}", None)
        if found is None:
            base = action.split(".", maxsplit=1)[0].split("(", maxsplit=1)[0]
            raise NotPossible(_INSTEAD.get(base, f"{action} has no counterpart"))
        return found

    def _add_case(self, made: dict[str, Any], case: Case, base: Match, place: "_Place") -> None:
        statement, report = place.statement, self.draft.report
        response = statement.keyword in ("http-response", "http-after-response")
        if case.status and not response:
            raise NotPossible("only answers have a status")
        match = both(base, case.match)
        if place.action == "auth":
            if case.user is None and case.match == {}:
                raise NotPossible("say which userlist: unless { http_auth(LIST) }")
            made = self._login(made, case.user)
        elif case.user is not None:
            raise NotPossible("a password is asked for by basic_auth, in a route")
        if case.rate is not None:
            self._limit(case.rate, match, place)
            return
        if case.status:
            made = {"response_status": case.status if len(case.status) > 1 else case.status[0], **made}
        if "path" in made:  # a replaced path: the pattern is part of the match
            match = both(match, {"path": made["path"]})
            made = {key: value for key, value in made.items() if key != "path"}
        if match is not None and "all" in match and "rewrite" in made and "{g" in made["rewrite"]:
            raise NotPossible("a condition on the path, and a pattern of it: write the condition into the pattern")
        if place.action == "tarpit":
            report.approximated(statement.line, "answered at once: it does not wait")
        self._put(match, made, statement.line)

    def _put(self, match: Match, made: dict[str, Any], line: Line) -> None:
        if made.pop("twice", False):  # a target with a query, where the request has one
            with_query = {"redirect": {**made["redirect"], "to": made["redirect"]["to"] + "?{query}"}}
            self.draft.route(both(match, {"when": 'uri.contains("?")'}), **with_query)
        if made:
            self.draft.route(match, **made)
        else:
            self.draft.report.needless(line, "the gateway does this itself")

    # ------------------------------------------------------------------------------------------------ rates and users

    def _track(self, counter: str, words: list[str], section: str, line: Line) -> None:
        if not words:
            raise NotPossible("track-sc needs a key")
        name = words[words.index("table") + 1] if "table" in words[:-1] else section
        if name not in self.tables:
            raise NotPossible("its table measures no http_req_rate: only rates of requests are limited here")
        (fetch, argument), *_ = calls(words[0])
        key = field_of(fetch, argument)
        self._tracked[section, counter] = name
        self.tables[name].per = {"client": "source"}.get(key, key if ":" in key else f"{{{key}}}")
        self.draft.report.taken(line, f"requests are counted by {self.tables[name].per}")

    def _limit(self, rate: Rate, match: Match, place: "_Place") -> None:
        tracked = self._tracked.get((place.section, rate.counter), place.section)
        table = self.tables.get(rate.table or tracked)
        if table is None:
            raise NotPossible("its table measures no http_req_rate")
        if place.action not in ("deny", "tarpit", "return"):
            raise NotPossible("a rate can only refuse requests here")
        if rate.count < 1:
            raise NotPossible("a rate of none: see qos: classes with admit: never")
        limit = {"rate": units.rate(rate.count, table.seconds), "burst": rate.count, "per": table.per}
        self.draft.route(match, **limit)
        how = f"at most {rate.count} at once and {limit['rate']} on average, not {rate.count} in any {table.seconds:g}s"
        self.draft.report.approximated(place.statement.line, f"{how}; refused requests get 429 and are not counted")

    def _login(self, made: dict[str, Any], user: User | None) -> dict[str, Any]:
        names = [name for name in self.users if user is None or name == user.userlist]
        if len(names) != 1 or not self.users[names[0]]:
            raise NotPossible("its userlist has no user whose password is hashed: make a file by htpasswd -B")
        return {"basic_auth": {"file": f"users-{name_of(names[0])}", **made}}

    # ------------------------------------------------------------------------------------------------------ of requests

    def _do_redirect(self, words: list[str], line: Line) -> dict[str, Any]:
        given = options(words, frozenset({"drop-query", "append-slash", "ignore-empty", "keep-query"}))
        if cookie := given.get("set-cookie") or given.get("clear-cookie"):
            raise NotPossible(f"a redirect does not set the cookie {cookie}: use respond with headers")
        if "append-slash" in given:
            raise NotPossible("append-slash: write a redirect with the path")
        status = int(given.get("code", "302"))
        if "scheme" in given:
            self.draft.report.approximated(line, "the port of the Host header is left out of the target")
            to = f"{self.texts.template(given['scheme'])}://{{host}}{{uri}}"
        elif "prefix" in given:
            prefix = self.texts.template(given["prefix"]).rstrip("/")
            to = prefix + ("{path}" if "drop-query" in given else "{uri}")
        elif "location" in given:
            to = self.texts.template(given["location"])
        else:
            raise NotPossible("a redirect needs location, prefix or scheme")
        return {"redirect": {"to": to, "status": status}}

    def _do_deny(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._answer(words, line, "403")

    def _do_tarpit(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._answer(words, line, "500")

    def _do_answer(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._answer(words, line, "200")

    def _answer(self, words: list[str], line: Line, status: str) -> dict[str, Any]:
        while "hdr" in words[:-2]:
            at = words.index("hdr")
            words = [*words[:at], f"hdr\0{words[at + 1]}", words[at + 2], *words[at + 3 :]]
        given = options(words, frozenset({"default-errorfiles"}))
        made: dict[str, Any] = {"status": int(given.get("deny_status") or given.get("status") or status)}
        if text := given.get("string") or given.get("lf-string"):
            if "lf-string" in given and "%" in text:
                raise NotPossible("a body has no fields: put them into a header, or let a server answer")
            made["body"] = text
        elif name := given.get("file") or given.get("lf-file"):
            path = self.draft.file(name)
            if not Path(path).is_file():
                raise NotPossible(f"{path} is not here")
            made["file"] = path
        elif "errorfile" in given:
            self.draft.report.approximated(line, "with the gateway's own page: see pages")
        if "content-type" in given:
            made["type"] = given["content-type"]
        headers = {key[4:]: self.texts.template(value) for key, value in given.items() if key.startswith("hdr\0")}
        return {"respond": {**made, **({"headers": headers} if headers else {})}}

    @staticmethod
    def _do_drop(_words: list[str], _line: Line) -> dict[str, Any]:
        return {"close": True}

    def _do_auth(self, words: list[str], _line: Line) -> dict[str, Any]:
        return {"realm": options(words)["realm"]} if "realm" in words[:-1] else {}

    def _edit(self, key: str, words: list[str], line: Line) -> dict[str, Any]:
        if len(words) < (1 if key.startswith("del") else 2):
            raise NotPossible("a header needs a name and a value")
        name = words[0]
        if name.lower() in OURS:
            self.draft.report.needless(line, f"the gateway writes {name} itself, by what it knows of the client")
            return {}
        if key.startswith("del"):
            if "-m" in words:
                raise NotPossible("headers are removed by their whole names")
            return {key.replace("del", "set"): {name: None}}
        return {key: {name: self.texts.template(words[1])}}

    def _do_set_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("set_header", words, line)

    def _do_add_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("append_header", words, line)

    def _do_del_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("del_header", words, line)

    def _do_set_path(self, words: list[str], _line: Line) -> dict[str, Any]:
        return {"rewrite": self.texts.template(words[0])}

    _do_set_uri = _do_set_path
    _do_set_pathq = _do_set_path

    def _do_set_query(self, words: list[str], _line: Line) -> dict[str, Any]:
        return {"rewrite": "{path}?" + self.texts.template(words[0])}

    def _do_replace_path(self, words: list[str], _line: Line) -> dict[str, Any]:
        if len(words) < 2:
            raise NotPossible("a pattern and a replacement are needed")
        pattern, names = with_names(words[0])
        return {"path": f"~ {pattern}", "rewrite": self.texts.template(words[1], names)}

    def _do_replace_uri(self, words: list[str], line: Line) -> dict[str, Any]:
        if words and "?" in words[0].replace("(?", "").replace(")?", ""):
            raise NotPossible("the pattern may look at the query: match on query instead")
        self.draft.report.approximated(line, "the path is replaced; the query stays")
        return self._do_replace_path(words, line)

    _do_replace_pathq = _do_replace_uri

    @staticmethod
    def _do_normalize_uri(_words: list[str], line: Line) -> dict[str, Any]:
        del line
        return {}

    # ----------------------------------------------------------------------------------------------------- of responses

    def _of_response_set_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("set_response_header", words, line)

    def _of_response_add_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("append_response_header", words, line)

    def _of_response_del_header(self, words: list[str], line: Line) -> dict[str, Any]:
        return self._edit("del_response_header", words, line)


@dataclass(frozen=True, slots=True)
class _Place:
    """A rule, its action, and the section that it is in."""

    statement: Statement
    action: str
    section: str


def without(match: Match, others: list[Match]) -> Match:
    """The match, except where one of the others holds."""
    return both(match, *(negated(other) for other in others))

"""Expressions of Apache's <If>, Require expr and RewriteCond expr, restricted to properties of the request.

Grammar: httpd.apache.org/docs/2.4/expr.html, but for most functions, lists of words and, outside of Header, what is
known only of an answer.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from gateway.config.apache_directives import Test, networks
from gateway.config.apache_text import FUNCTIONS
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<regex>m\#(?:[^\#\\]|\\.)*\#i?|/(?:[^/\\]|\\.)*/i?(?=\s|\)|$))
    | (?P<sign>&&|\|\||==|!=|<=|>=|=~|!~|[()!<>=,{}])
    | (?P<variable>%\{[^}]*\})
    | (?P<word>-?[\w.:/*+-]+)
    )""",
    re.VERBOSE,
)
_TEXTS: Final = {
    "==": "equal",
    "=": "equal",
    "!=": "unlike",
    "<": "less",
    "<=": "at_most",
    ">": "more",
    ">=": "at_least",
}
_NUMBERS: Final = {"eq", "ne", "lt", "le", "gt", "ge"}
_FILES: Final = frozenset("dfs")

Expand = Callable[[str], tuple[Any, ...]]
"""Parses a text with variables into parts."""


def parse(text: str, expand: Expand) -> Test:
    """Parse an expression. Raises Fault."""
    return _Parser(text, expand).whole()


class _Parser:
    def __init__(self, text: str, expand: Expand) -> None:
        self.expand = expand
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise Fault(f"this expression is not understood from here on: {text[at:].strip()}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def whole(self) -> Test:
        tree = self.either()
        if self.peek()[0] != "end":
            raise Fault(f"this expression is not understood at {self.peek()[1]}")
        return tree

    def either(self) -> Test:
        items = [self.both()]
        while self.peek() in (("sign", "||"), ("word", "or")):
            self.take()
            items.append(self.both())
        return ("any", tuple(items)) if len(items) > 1 else items[0]

    def both(self) -> Test:
        items = [self.one()]
        while self.peek() in (("sign", "&&"), ("word", "and")):
            self.take()
            items.append(self.one())
        return ("all", tuple(items)) if len(items) > 1 else items[0]

    def one(self) -> Test:
        kind, token = self.peek()
        if (kind, token) == ("sign", "!"):
            self.take()
            return ("not", self.one())
        if (kind, token) == ("sign", "("):
            self.take()
            tree = self.either()
            if self.take() != ("sign", ")"):
                raise Fault("a parenthesis is not closed")
            return tree
        if kind == "word" and token.lower() in ("true", "false"):
            self.take()
            return ("granted",) if token.lower() == "true" else ("denied",)
        if kind == "word" and re.fullmatch("-[a-zA-Z]", token):
            return self.unary(self.take()[1])
        return self.comparison()

    def unary(self, sign: str) -> Test:
        if sign == "-R":
            return ("ip", networks([self.plain()]))
        value = self.value()
        if sign in ("-n", "-z"):
            return ("empty", value) if sign == "-z" else ("not", ("empty", value))
        if sign == "-T":
            return ("true", value)
        if sign[1] in _FILES:
            return ("file", sign[1], value)
        raise Fault(f"{sign} is not supported in expressions")

    def comparison(self) -> Test:
        left = self.value()
        kind, sign = self.take()
        if kind == "sign" and sign in _TEXTS:
            right = self.value()
            if sign == "!=":
                return ("not", ("compare", "equal", left, right))
            return ("compare", _TEXTS[sign], left, right)
        if kind == "sign" and sign in ("=~", "!~"):
            tree: Test = ("match", *self.regex(), left)
            return ("not", tree) if sign == "!~" else tree
        if kind == "word" and sign.removeprefix("-") in _NUMBERS:
            return ("compare", sign.removeprefix("-"), left, self.value())
        if kind == "word" and sign == "-ipmatch":
            if left != (("var", "REMOTE_ADDR", (), None),):
                raise Fault("-ipmatch is for %{REMOTE_ADDR}")
            return ("ip", networks([self.plain()]))
        if kind == "word" and sign in ("in", "-in") and self.take() == ("sign", "{"):
            items = [self.value()]
            while self.peek() == ("sign", ","):
                self.take()
                items.append(self.value())
            if self.take() != ("sign", "}"):
                raise Fault("a brace is not closed")
            return ("any", tuple(("compare", "equal", left, item) for item in items))
        raise Fault(f"{sign or 'the end'} is not understood in an expression: a comparison is expected")

    def regex(self) -> tuple[str, bool]:
        kind, token = self.take()
        if kind != "regex":
            raise Fault("a pattern stands between slashes, or as m#…#")
        ignore_case = token.endswith("i")
        body = token.removesuffix("i")
        body = body[2:-1] if body.startswith("m#") else body[1:-1].replace(r"\/", "/")
        Pattern(body, ignore_case=ignore_case, backtrack=True)
        return body, ignore_case

    def plain(self) -> str:
        kind, token = self.take()
        return token[1:-1] if kind == "text" else token

    def value(self) -> tuple[Any, ...]:
        kind, token = self.take()
        if kind == "text":
            return self.expand(token[1:-1])
        if kind == "word" and self.peek() == ("sign", "("):
            return self.function(token.lower())
        if kind in ("variable", "word"):
            return self.expand(token)
        if kind == "regex" and token.startswith("/"):
            return self.expand(token)
        raise Fault(f"{token or 'the end'} is not understood in an expression: a value is expected")

    def function(self, name: str) -> tuple[Any, ...]:
        """A call, from its parenthesis on."""
        self.take()
        if name in ("req", "http", "req_novary", "reqenv", "env", "resp"):
            family = {"reqenv": "ENV", "env": "ENV", "resp": "RESP"}.get(name, "HTTP")
            found = self.expand(f"%{{{family}:{self.plain()}}}")
        elif name in FUNCTIONS:
            found = (("function", name, self.value(), None),)
        else:
            raise Fault(f"the function {name} is not supported in expressions")
        if self.take() != ("sign", ")"):
            raise Fault("a parenthesis is not closed")
        return found

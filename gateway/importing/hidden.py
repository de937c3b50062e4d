"""Leaves secrets out of the words of a line, so that a report can be shown to others."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

HIDDEN: Final = "***"
_SENSITIVE: Final = r"[\w-]*(?:authorization|secret|token|passw(?:or)?d|api[_-]?key|x[_-]auth|x[_-][\w-]*key)[\w-]*"
"""A name of a header, a cookie, a parameter or a variable whose value may be a secret."""
_NAME: Final = re.compile(rf"\$?{_SENSITIVE}", re.IGNORECASE)
_FETCH: Final = re.compile(rf"(?:re[qs]\.)?(?:f?hdr|cook|url_param|urlp)\w*\({_SENSITIVE}\)\S*", re.IGNORECASE)
_WITH_VALUES: Final = frozenset(
    {
        "acl",
        "add_header",
        "fastcgi_param",
        "grpc_set_header",
        "http-after-response",
        "http-check",
        "http-request",
        "http-response",
        "if",
        "presetenv",
        "proxy_set_header",
        "redirect",
        "set",
        "setenv",
        "use_backend",
        "uwsgi_param",
    }
)
"""Lines that name such things with their values."""
_ENDS: Final = frozenset({"if", "unless", "or", "||", "{", "}"})
_BETWEEN: Final = frozenset(
    ["=", "!=", "~", "~*", "!~", "!~*", "always", "str", "beg", "end", "sub", "dir", "dom", "reg", "found"]
)
"""Words between such a name and its value, and flags."""
_FLAG: Final = re.compile(r"-[a-z]+")
_FIELD: Final = re.compile(r"\$\{?\w+\}?|%\[[^\]]*\]|%\{[^}]*\}|\b(?:basic|bearer)\b", re.IGNORECASE)
_WITHIN: Final = (
    (re.compile(r"(://[^/@:\s]*:)[^/@\s]+(?=@)"), rf"\1{HIDDEN}"),
    (re.compile(rf"([?&]{_SENSITIVE}=)[^&\s]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(\n{_SENSITIVE}:\s*)[^\r\n]+", re.IGNORECASE), rf"\1{HIDDEN}"),
)
"""In a URL, and in header lines of a check."""
_PASSWORDS: Final = frozenset({"password", "insecure-password"})


def without_secrets(words: Sequence[str], source: str = "") -> str:
    """The words of a line without its secrets. `source`: of an entry of nginx's map, the variable that it looks at."""
    shown = [_within(word) for word in words]
    match words:
        case ["user", _, *_]:
            shown = [HIDDEN if last in _PASSWORDS else word for last, word in zip(["", *words], shown, strict=False)]
        case ["stats", "auth", login, *_]:
            shown[2] = f"{login.partition(':')[0]}:{HIDDEN}"
        case ["secure_link_md5" | "secure_link_secret", *_]:
            shown[1:] = [HIDDEN]
        case ["env", setting, *_] if _NAME.fullmatch(setting.partition("=")[0]):
            shown[1] = f"{setting.partition('=')[0]}={HIDDEN}"
        case [name, *_] if source and _NAME.fullmatch(source) and name not in ("default", "hostnames", "include"):
            shown[0] = HIDDEN
        case [name, *_] if name in _WITH_VALUES:
            shown = list(_behind_names(shown))
    return " ".join(shown)


def _within(word: str) -> str:
    for pattern, instead in _WITHIN:
        word = pattern.sub(instead, word)
    return word


def _behind_names(words: Sequence[str]) -> Iterator[str]:
    """The words, with HIDDEN for the values that follow a sensitive name."""
    follows = conditional = False
    first = 2 if words[0] in ("acl", "use_backend") else 1  # before that stand names of the configuration
    for at, word in enumerate(words):
        if at and word in _ENDS:
            follows, conditional = False, True
        elif at >= first and (_FETCH.fullmatch(word) or (not conditional and _NAME.fullmatch(word))):
            follows = True
        elif follows and word not in _BETWEEN and not _FLAG.fullmatch(word) and _is_secret(word):
            yield HIDDEN
            continue
        yield word


def _is_secret(word: str) -> bool:
    """Whether anything is left of a value without what requests bring along."""
    return any(char.isalnum() for char in _FIELD.sub("", word))

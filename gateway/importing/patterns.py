"""Regular expressions of other proxies, as routes of a site file have them."""

import re
from typing import Final

_OPENED: Final = re.compile(r"\\.|\[(?:\\.|\[:\w+:\]|[^\]\\])+\]|\((\?P?<(?!=|!)(\w+)>|\?)?", re.DOTALL)


def with_names(pattern: str) -> tuple[str, dict[str, str]]:
    """The pattern with a name for each group, and the names by number: `(.*)` becomes `(?<g1>.*)`."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        if not found[0].startswith("("):
            return found[0]
        if found[1] == "?":  # such as (?:
            return found[0]
        name = found[2] or f"g{len(names) + 1}"
        names[str(len(names) + 1)] = name
        return f"(?<{name}>"

    return _OPENED.sub(named, pattern), names


def anchored(text: str, how: str, *, any_case: bool = False, listed: bool = False) -> str:
    """A pattern for a text at the beginning (beg), the end (end), anywhere (sub), or for all of it (str).

    Also as a part between slashes (dir) or dots (dom), and a pattern as it is (reg). `listed`: of one of
    several texts with commas between them (RFC 9110 section 5.6.1).
    """
    plain = re.sub(r"\\(?=[-/ #&~@%!\"',:;<=>_`])", "", re.escape(text))
    begin, end = (r"(^|,)[ \t]*", r"[ \t]*(,|$)" if plain else "(,|$)") if listed else ("^", "$")
    made = {
        "str": f"{begin}{plain}{end}",
        "beg": f"{begin}{plain}",
        "end": f"{plain}{end}",
        "sub": plain,
        "dir": f"(^|/){plain}(/|$)",
        "dom": f"(^|[/?:.]){plain}([/?:.]|$)",
        "reg": text,
    }[how]
    return f"(?i){made}" if any_case else made


def quoted(text: str) -> str:
    """A text as one of an expression (`when`)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """A text as part of a template: braces stand for themselves."""
    return text.replace("{", "{{").replace("}", "}}")

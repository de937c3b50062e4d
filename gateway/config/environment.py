"""Environment variables in the values of a site file: "${NAME}", or "${NAME:-default}"; "$${" stands for "${"."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.config.document import plain
from gateway.config.problem import Finding, Loc

_VARIABLE: Final = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNCLEAR: Final = re.compile(r"(?<!\$)\$\{(?:([^${}]{1,40})\})?")
_CADDY: Final = re.compile(r"(?<!\{)\{\$([A-Z_][A-Z0-9_]*)(?::[^}]*)?\}")


def _unclear(text: str, loc: Loc) -> Iterator[Finding]:
    """What begins as a variable and is none."""
    found = _UNCLEAR.search(_VARIABLE.sub(lambda match: " " * len(match[0]), text))
    if found is not None:
        why = f"{found[1]} is not the name of a variable" if found[1] else "a variable is not closed"
        message = f"{why}: write ${{NAME}} for one of the environment, and $${{ for the text ${{"
        yield Finding(loc, message, offset=found.start())


def fill(data: Any, environment: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """Replace the variables in all values of `data`, in place.

    Returns the variables used with their values, and a finding for each that is not set and has no default, or has no
    valid name.
    """
    used: dict[str, str] = {}
    findings: list[Finding] = []
    seen: set[int] = set()

    def filled(text: str, loc: Loc) -> Any:
        def value(match: "re.Match[str]") -> str:
            escaped, name, default = match.groups()
            if escaped:
                return str(escaped)
            found = environment.get(name, default)
            if found is None:
                message = f"the environment variable {name} is not set; ${{{name}:-default}} gives a default"
                findings.append(Finding(loc, message, offset=match.start()))
                return ""
            used[name] = found
            return str(found)

        if caddy := _CADDY.search(text):
            message = f"write ${{{caddy[1]}}} for an environment variable"
            findings.append(Finding(loc, message, offset=caddy.start()))
        findings.extend(_unclear(text, loc))
        made = _VARIABLE.sub(value, text)
        whole = _VARIABLE.fullmatch(text)
        return plain(made) if whole and not whole[1] else made

    def walk(part: Any, loc: Loc) -> None:
        if id(part) in seen:
            return  # by an alias
        seen.add(id(part))
        for key, item in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(item, dict | list):
                walk(item, (*loc, key))
            elif isinstance(item, str) and ("${" in item or "{$" in item):
                part[key] = filled(item, (*loc, key))

    if isinstance(data, dict | list):
        walk(data, ())
    return used, findings

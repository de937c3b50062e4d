"""What proxies say about a request on its way: addresses in X-Forwarded-For and the like, and Forwarded (RFC 7239)."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

_PAIR: Final = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+)|"((?:[^"\\]|\\.)*)")')
"""A forwarded-pair (section 4), taking a node with its port or brackets without quotes, as some write it."""


def address(node: str) -> str | None:
    """Return the IP address of a node (section 6) in its usual form: ADDRESS, ADDRESS:PORT, [V6] or [V6]:PORT.

    None for all else, such as "unknown" and a name that hides one. An IPv4 address mapped into IPv6 is one of IPv4.
    """
    text, port = node.strip(), ""
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        text = text[1:-1]
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")) or ":" not in text:
            return None
        port = port[1:]
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    if "%" in text or (port and not re.fullmatch(r"[0-9A-Za-z._-]{1,32}", port)):
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


def elements(text: str) -> list[dict[str, str]]:
    """Return the elements of a Forwarded field, each as its parameters by lower-case name.

    What is malformed makes all that stands before it unknown: it, and everything before it, is left out.
    """
    found: list[dict[str, str]] = []
    for part in _split(text, ","):
        pairs = [_PAIR.fullmatch(pair.strip()) for pair in _split(part, ";") if pair.strip()]
        if not pairs:
            continue
        if None in pairs:
            found.clear()
            continue
        found.append(
            {
                pair[1].lower(): pair[2] if pair[2] is not None else re.sub(r"\\(.)", r"\1", pair[3])
                for pair in pairs
                if pair
            }
        )
    return found


def _split(text: str, mark: str) -> list[str]:
    """The parts between marks that are not within quotes."""
    parts, start, at, quoted = [], 0, 0, False
    while at < len(text):
        if quoted and text[at] == "\\":
            at += 1
        elif text[at] == '"':
            quoted = not quoted
        elif text[at] == mark and not quoted:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]

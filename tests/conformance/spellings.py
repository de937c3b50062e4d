"""Pairs of spellings that rules could see as two and a server as one: what is decided about each, with examples.

One table for the test (test_spellings.py) and for people. A rule forbids /admin/ on the host shop.example; `sent` is
asked for, and the gateway answers with `status`: 403 where the rule holds, 400 where it is refused, 200 where it
reaches the server, which then gets the target `arrives`.
"""

from dataclasses import dataclass
from typing import Literal

Decision = Literal["one", "refused", "two"]
"""one: both spellings are one thing to rules; refused: the other spelling is 400; two: they are two things, and why."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """A pair, what is decided, and examples."""

    pair: str
    decision: Decision
    why: str
    sent: tuple[str, ...]
    status: int
    arrives: str = ""
    host: str = "shop.example"


SPELLINGS = [
    Spelling(
        "one slash, several", "one", "merged for rules and servers; `merge_slashes: false` leaves them",
        ("//admin/x", "/admin//x", "///admin/x", "/.//admin/x", "/a/..//admin/x", "/a//../admin/x"), 403,
    ),
    Spelling(
        "dot segments, plain or encoded", "one", "resolved (RFC 3986 section 5.2.4)",
        ("/./admin/x", "/a/../admin/x", "/%2e/admin/x", "/a/%2E%2e/admin/x", "/a/.%2e/admin/x", "/../../admin/x"), 403,
    ),
    Spelling(
        "a dot segment behind an encoded slash or a parameter", "refused", "servers differ in what it leads to",
        ("/a%2f..%2fadmin/x", "/..;/admin/x", "/a/..;x=y/admin/x", "/a%5c..%5cadmin/x", "/a/..%3b/admin/x"), 400,
    ),
    Spelling(
        "letters, digits, `-._~`, plain or encoded", "one", "decoded (RFC 3986 section 6.2.2.2)",
        ("/%61dmin/x", "/%61%64%6d%69%6e/x", "/%61%64%6D%69%6E/x"), 403,
    ),
    Spelling(
        "escapes in upper and lower case", "one", "upper case (RFC 3986 section 6.2.2.1)",
        ("/%c3%a9",), 200, "/%C3%A9",
    ),
    Spelling(
        "``!$&'()*,=:@``, plain or encoded", "one", "rules see them decoded, servers get what was sent",
        ("/%40private/x", "/@private/x"), 403,
    ),
    Spelling(
        "`%2F` and `%5C`, `/` and `\\`", "refused",
        "most servers decode them, Apache refuses them, to some they are letters; `encoded_slashes: true` passes them as they are, "
        "and rules see no slash there",
        ("/admin%2fx", "/admin%2Fx", "/%2fadmin/x", "/a%5cx"), 400,
    ),
    Spelling("a backslash", "refused", "a slash to some servers", ("/admin\\x", "\\admin/x"), 400),
    Spelling("`%00`", "refused", "the end of the path to some servers", ("/admin%00/x", "/a%00"), 400),
    Spelling("an escape that is none", "refused", "taken literally by some servers", ("/%", "/%4", "/%zz", "/%u0061dmin/x"), 400),
    Spelling("bytes beyond ASCII, plain", "refused", "RFC 3986 has none", ("/\xe9",), 400),
    Spelling(
        '``"<>[]^`{\\|}``, plain or encoded', "one", "encoded; RFC 3986 allows none of them in a path",
        ('/a[1]{2}|<3>"^`',), 200, "/a%5B1%5D%7B2%7D%7C%3C3%3E%22%5E%60",
    ),
    Spelling(
        "a path with parameters (`;x=y`) and one without", "two",
        "Java servers leave parameters out, others do not; `path_parameters: false` refuses them",
        ("/admin;x=y/x",), 200, "/admin;x=y/x",
    ),
    Spelling(
        "`+` and `;`, plain or encoded", "two", "some servers read a space or a parameter in the plain ones; a rule about "
        "them names both spellings",
        ("/a%2Bb%3bc",), 200, "/a%2Bb%3Bc",
    ),
    Spelling(
        "encoded once and twice", "two", "a server that decodes twice is at fault", ("/%2561dmin/x",), 200, "/%2561dmin/x",
    ),
    Spelling(
        "upper and lower case of letters", "two", "they are two files but on Windows and macOS; there, write rules as "
        '`"~(?i)^/admin/"`',
        ("/ADMIN/x",), 200, "/ADMIN/x",
    ),
    Spelling(
        "names of hosts in upper and lower case, with a dot at the end, with a port", "one", "to rules; servers get Host as sent",
        ("/admin/x",), 403, host="SHOP.example",
    ),
    Spelling("", "one", "", ("/admin/x",), 403, host="shop.example."),
    Spelling("", "one", "", ("/admin/x",), 403, host="shop.example:8080"),
    Spelling(
        "a host that is encoded, or has userinfo", "refused", "no name that a client looks up",
        ("/admin/x",), 400, host="shop%2Eexample",
    ),
    Spelling("", "refused", "", ("/admin/x",), 400, host="a@shop.example"),
    Spelling(
        "the target with and without scheme and host", "one", "they must agree with Host",
        ("http://shop.example/admin/x", "HTTP://shop.example//admin/x"), 403,
    ),
]  # fmt: skip


def markdown() -> str:
    """The table for people."""
    words = {"one": "one thing", "refused": "400", "two": "two things"}
    rows = [f"| {item.pair} | {words[item.decision]} | {item.why} |" for item in SPELLINGS if item.pair]
    return "\n".join(("| spellings | to rules | why, and what else can be said |", "|---|---|---|", *rows))

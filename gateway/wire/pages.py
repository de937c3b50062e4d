"""The gateway's own error pages: short, self-contained, the same for every client."""

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from pathlib import PurePath
from typing import Final

HINTS: Final = {
    502: "The server that should have answered could not be reached, or did not answer properly.",
    503: "No server can take the request right now. Please try again in a few seconds.",
    504: "The server that should have answered took too long.",
    404: "There is nothing at this address.",
    401: "This page is for users with a password.",
    429: "Too many requests have come from you. Please wait a moment before the next one.",
}
STATUSES: Final = (400, 401, 403, 404, 408, 413, 414, 417, 429, 431, 499, 500, 501, 502, 503, 504, 505)
HTML: Final = "text/html; charset=utf-8"
TYPES: Final = {".html": HTML, ".json": "application/json", ".txt": "text/plain; charset=utf-8"}


def phrase(status: int) -> str:
    """The reason phrase of a status code (RFC 9110 section 15), or a general one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def page(status: int, sentence: str = "") -> bytes:
    """An error page as HTML; `sentence` says what was wrong, in place of the general hint."""
    title = f"{status} {phrase(status)}"
    text = escape(sentence or HINTS.get(status, ""), quote=False)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32em;padding:0 1em;"
        "color:#223}h1{font-size:1.4em}</style>"
        f"<h1>{title}</h1><p>{text}</p>\n"
    ).encode()


def pages(custom: Mapping[int, tuple[str, bytes]]) -> dict[int, tuple[bytes, bytes]]:
    """Status → (header lines, body), with the site's own pages (file name, content) in place of the built-in ones."""
    found: dict[int, tuple[bytes, bytes]] = {}
    for status in {*STATUSES, *custom}:
        name, body = custom.get(status, ("error.html", page(status)))
        kind = TYPES.get(PurePath(name).suffix, HTML)
        lines = f"Content-Type: {kind}\r\nCache-Control: no-store\r\n"
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            lines += "Retry-After: 5\r\n"
        found[status] = (lines.encode(), body)
    return found

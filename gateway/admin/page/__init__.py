"""The files of the page, read once, and served without a token: they hold nothing of the gateway."""

from importlib import resources
from typing import Final

from gateway.admin.server import Answer, Asked, Endpoint

_KINDS: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Read at the import: a confined process may not reach them.
_TEXTS: Final = {
    name: resources.files(__name__).joinpath(name).read_text("utf-8")
    for name in (
        "index.html",
        "gateway.css",
        "gateway.js",
        "tail.js",
        "complete.js",
        "completion.js",
        "gateway.svg",
        "uplot.css",
        "uplot.js",
    )
}


def endpoints() -> dict[str, dict[str, Endpoint]]:
    """What is at which path; the page itself is at /."""
    return {f"/{'' if name == 'index.html' else name}": {"GET": _endpoint(name, text)} for name, text in _TEXTS.items()}


def _endpoint(name: str, text: str) -> Endpoint:
    kind = f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8"

    async def answer(_: Asked) -> Answer:
        return 200, kind, text

    return Endpoint(role=None, answer=answer)

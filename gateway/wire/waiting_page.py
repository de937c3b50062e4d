"""The answer to clients that wait for a session: a page that refreshes itself, or JSON."""

import json
import re
import time
from html import escape
from typing import Final

from gateway.wire.pages import page

PLACEHOLDER: Final = re.compile(r"\{(place|waiting|estimate|class|refresh|opens)\}")
"""Of a page of the site's own."""
FULL: Final = "All places are taken, those to wait in as well. Please come back in a few minutes."
RETRY_WHEN_FULL: Final = 30
"""Seconds."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400

# With JavaScript the text changes only when there is something new, so that a screen reader says no more than that, and
# the page is loaded again when it is its turn; without, the browser loads it every few seconds.
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<noscript><meta http-equiv="refresh" content="{refresh}{url}"></noscript>
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32em;padding:0 1em;color:#223}}
h1{{font-size:1.4em}}@media(prefers-color-scheme:dark){{body{{background:#112;color:#dde}}}}</style>
<main><h1>Please wait a moment</h1>
<p id="status" role="status" aria-live="polite">{text}</p>
<p>This page asks again by itself. Your place is kept while it is open.</p></main>
<script>
const at={address}||location.href,line=document.getElementById("status");
async function ask(){{
  try{{
    const answer=await fetch(at,{{headers:{{Accept:"application/json"}},cache:"no-store"}});
    const says=answer.headers.get("X-Waiting-Room")?await answer.json():null;
    if(!says){{{reload};return}}
    if(line.textContent!==says.text)line.textContent=says.text;
  }}catch(error){{}}
  setTimeout(ask,{refresh}000*(1+Math.random()/10));
}}
setTimeout(ask,{refresh}000);
</script>
"""


class WaitingPage:
    """refresh: seconds, whole. custom: a page of the site's own, or None. opens: seconds since 1970; 0: always open."""

    def __init__(self, refresh: int, custom: bytes | None, opens: int) -> None:
        self._refresh = refresh
        self._opens = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(opens))} UTC" if opens else ""
        self.custom = custom is not None
        """Whether it is the site's own, which need not ask again by itself."""
        self._custom = None if custom is None else custom.decode("utf-8", "surrogateescape")

    def text(self, place: int | None, estimate: float | None) -> str:
        """A sentence or two. place: how many go before; None: the opening is still to come. estimate: seconds."""
        if place is None:
            return f"This site opens at {self._opens}. Everyone who is here by then gets a random place."
        return f"You are number {place + 1} in the queue. {wait_text(estimate)}"

    def html(self, place: int | None, waiting: int, estimate: float | None, klass: str, url: str) -> bytes:
        """The page. url: where to ask again; empty: at the same address."""
        if self._custom is not None:
            values = {
                "place": "" if place is None else str(place + 1),
                "waiting": str(waiting),
                "estimate": duration_text(estimate),
                "class": escape(klass),
                "refresh": str(self._refresh),
                "opens": self._opens,
            }
            return PLACEHOLDER.sub(lambda found: values[found[1]], self._custom).encode("utf-8", "surrogateescape")
        return _PAGE.format(
            refresh=self._refresh,
            url=f"; url={escape(url)}" if url else "",
            title="Waiting room" if place is None else f"Number {place + 1} in the queue",
            text=escape(self.text(place, estimate)),
            address=json.dumps(url).replace("<", "\\u003c") if url else '""',
            reload="location.replace(answer.url)" if url else "location.reload()",
        ).encode()

    def json(self, place: int | None, waiting: int, estimate: float | None, klass: str, url: str) -> bytes:
        """The same for programs."""
        return (
            json.dumps(
                {
                    "state": "early" if place is None else "waiting",
                    "place": None if place is None else place + 1,
                    "waiting": waiting,
                    "estimate_seconds": None if estimate is None else round(estimate),
                    "class": klass or None,
                    "refresh_seconds": self._refresh,
                    "opens": self._opens or None,
                    "url": url or None,
                    "text": self.text(place, estimate),
                }
            )
            + "\n"
        ).encode()


def wait_text(seconds: float | None) -> str:
    """A sentence about how long it may take."""
    if seconds is None:
        return "How long it will take is not known yet."
    return f"It will take {duration_text(seconds)}."


def duration_text(seconds: float | None) -> str:
    """About how long, in words."""
    if seconds is None:
        return "unknown"
    if seconds < _MINUTE:
        return "less than a minute"
    if seconds < _HOUR:
        return _about(seconds / _MINUTE, "minute")
    if seconds < 2 * _DAY:
        return _about(seconds / _HOUR, "hour")
    return _about(seconds / _DAY, "day")


def full_page(status: int) -> bytes:
    """For clients that get no place."""
    return page(status, FULL)


def full_json() -> bytes:
    """The same for programs."""
    return json.dumps({"state": "full", "retry_seconds": RETRY_WHEN_FULL, "text": FULL}).encode() + b"\n"


def _about(number: float, unit: str) -> str:
    rounded = max(1, round(number))
    return f"about {rounded} {unit}{'' if rounded == 1 else 's'}"

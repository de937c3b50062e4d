"""Which site a visitor is sent to, and who stays."""

from typing import Any, Literal

import pytest

from gateway.config.address import network
from gateway.rules.actions import Respond
from gateway.rules.conditions import SourceIn
from gateway.rules.routes import Route, RouteTable
from gateway.rules.site_token import DESTINATION, LIFETIME, mark, without
from gateway.rules.sites import Arrival, ToSite
from gateway.rules.view import Assumed
from tests.rules.views import view

KEY = b"0123456789abcdef"
NOW = 1_790_000_000.0
PEERS = [
    ("syd", "https://syd.example", None),
    ("dub", "https://dub.example", SourceIn([network("2.16.0.0/13")])),
    ("osl", "https://osl.example", None),
]


def answer(
    loads: dict[str, float], *, headers: tuple[str, ...] = (), uri: str = "/a?b", client: str = "192.0.2.1",
    best: bool = True, method: str = "GET", how: Literal["best", "full", "spill"] = "best",
    spilled: dict[str, float] | None = None,
) -> tuple[str | None, Any]:  # fmt: skip
    """The site chosen and what the routes say."""
    peers = PEERS if best else PEERS[1:2]
    table = RouteTable(
        [
            Route(0, None, (), (), None, (), [ToSite("mel", peers, KEY, how if best else "named")]),
            Route(1, None, (), (), "app"),
        ],
        [Arrival(KEY, ["mel", "syd", "dub", "osl"])],
    )
    asked = view(method, f"https://www.example{uri}", headers, client)
    asked.clock = lambda: NOW
    asked.resources = Assumed({}, {}, 0, loads, spilled or {})
    found = table.find(asked)
    return asked.site, found


@pytest.mark.parametrize("loads, site", [
    ({"mel": 0.9, "syd": 0.5, "osl": 0.4}, "osl"),
    ({"mel": 0.9, "syd": 0.5, "osl": 0.4, "dub": 0.3}, "dub"),
    ({"mel": 1.7, "syd": 1.0, "osl": 1.2}, None),   # no site has room
    ({"mel": 0.4, "syd": 0.4, "osl": 0.5}, None),   # no site has more than this one
    ({"syd": 0.1}, None),                           # the own load is unknown
    ({"mel": 0.9}, None),                           # no other load is known
])  # fmt: skip
def test_the_best_site_has_room_and_the_least_load(loads: dict[str, float], site: str | None) -> None:
    chosen, found = answer(loads)
    assert chosen == site
    assert (found == "app") == (site is None)


def test_a_site_that_suits_the_client_is_preferred_while_it_has_room() -> None:
    assert answer({"mel": 0.9, "syd": 0.1, "dub": 0.8}, client="2.16.3.4")[0] == "dub"
    assert answer({"mel": 0.9, "syd": 0.1, "dub": 0.95}, client="2.16.3.4")[0] == "syd"
    assert answer({"mel": 0.9, "syd": 0.1, "dub": 0.8}, client="2.15.3.4")[0] == "syd"


def test_one_that_is_named_is_gone_to_whatever_its_load() -> None:
    assert answer({}, best=False)[0] == "dub"


def lines(found: Respond | str) -> list[str]:
    assert isinstance(found, Respond)
    return found.lines.decode().splitlines()


def test_the_answer_keeps_what_was_asked_for() -> None:
    _, found = answer({"mel": 0.9, "syd": 0.1})
    location, cache, cookie = lines(found)
    assert without(location.encode()) == (b"Location: https://syd.example/a?b", mark(KEY, "mel", NOW))
    assert cache == "Cache-Control: no-store"
    assert cookie.startswith("Set-Cookie: gwsent=syd.")
    assert isinstance(found, Respond)
    assert found.status == 302
    _, posted = answer({"mel": 0.9, "syd": 0.1}, method="POST")
    assert isinstance(posted, Respond)
    assert posted.status == 307
    old = mark(KEY, "osl", NOW - 9999).decode()  # an expired mark
    location, *_ = lines(answer({"mel": 0.9, "syd": 0.1}, uri=f"//evil.example/?gwsite={old}")[1])
    assert location.startswith("Location: https://syd.example//evil.example/?gwsite=mel.")


def test_who_was_sent_here_stays() -> None:
    given = mark(KEY, "syd", NOW - 5).decode()
    for uri, headers in (
        (f"/a?gwsite={given}", ()),
        ("/a", (f"Cookie: x=y; gwsite={given}",)),
        ("/a", ("Connection: Upgrade", "Upgrade: websocket")),
    ):
        assert answer({"mel": 0.9, "osl": 0.1}, uri=uri, headers=headers) == (None, "app")
    forged = given[:-1] + ("0" if given[-1] != "0" else "1")
    for uri, headers in ((f"/a?gwsite={forged}", ()), ("/a", (f"Cookie: gwsite={forged}",))):
        assert answer({"mel": 0.9, "osl": 0.1}, uri=uri, headers=headers)[0] == "osl"


def test_a_mark_becomes_a_cookie_and_no_route_sees_it() -> None:
    given = mark(KEY, "syd", NOW - 5).decode()
    seen = view("GET", f"https://www.example/a?b=c&gwsite={given}&d")
    seen.clock = lambda: NOW
    table = RouteTable([Route(0, None, (), (("/a", "exact"),), "app")], [Arrival(KEY, ["mel"])])
    found, trace = table.explain(seen)
    assert (found, trace["sites"]) == ("app", {"mel": None})
    assert seen.uri_now == b"/a?b=c&d"
    assert seen.arrived == "syd"
    assert seen.response_edits is not None
    _, added = seen.response_edits.listed()
    assert added.decode() == (f"Set-Cookie: gwsite={given}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure\r\n")


def sent(site: str, age: float = 5.0, purpose: bytes = DESTINATION) -> tuple[str, ...]:
    return (f"Cookie: gwsent={mark(KEY, site, NOW - age, purpose).decode()}",)


def test_a_client_goes_to_the_site_that_it_was_sent_to_before_while_that_has_room() -> None:
    assert answer({"mel": 0.9, "syd": 0.5, "osl": 0.4}, headers=sent("syd"))[0] == "syd"
    assert answer({"mel": 0.9, "syd": 0.95, "osl": 0.4}, headers=sent("syd"))[0] == "syd"
    assert answer({"mel": 0.9, "syd": 1.0, "osl": 0.4}, headers=sent("syd"))[0] == "osl", "it is full"
    assert answer({"mel": 0.9, "osl": 0.4}, headers=sent("syd"))[0] == "osl", "it is down"
    assert answer({"mel": 0.9, "syd": 0.5, "osl": 0.4}, headers=sent("syd", LIFETIME + 1))[0] == "osl"
    assert answer({"mel": 0.9, "syd": 0.5, "osl": 0.4}, headers=sent("syd", purpose=b"other"))[0] == "osl"
    assert answer({"mel": 0.2, "syd": 0.5}, headers=sent("syd"), how="spill")[0] == "syd", "though nothing is spilled"


@pytest.mark.parametrize("spilled, client, site", [
    ({"syd": 0.4}, "192.0.2.1", None),                  # most clients stay
    ({"syd": 0.6}, "192.0.2.1", "syd"),
    ({"syd": 0.1, "osl": 0.6}, "192.0.2.1", "osl"),
    ({"syd": 0.3, "dub": 0.3}, "2.16.3.4", "dub"),      # suits the client
    ({}, "192.0.2.1", None),
])  # fmt: skip
def test_a_part_of_new_clients_is_spilled(spilled: dict[str, float], client: str, site: str | None) -> None:
    assert answer({"mel": 0.9, "syd": 0.1}, how="spill", spilled=spilled, client=client)[0] == site


def test_a_client_that_stays_is_not_asked_again() -> None:
    def cookies(headers: tuple[str, ...]) -> tuple[str | None, list[str]]:
        asked = view("GET", "https://www.example/a", headers)
        asked.clock = lambda: NOW
        asked.resources = Assumed({}, {}, 0, {}, {"syd": 0.4 if not headers else 1.0})
        RouteTable([Route(0, None, (), (), None, (), [ToSite("mel", PEERS, KEY, "spill")])], []).find(asked)
        added = asked.response_edits.listed()[1].decode() if asked.response_edits is not None else ""
        return asked.site, added.splitlines()

    site, (line,) = cookies(())
    assert site is None
    assert line.startswith("Set-Cookie: gwsite=mel.")
    kept = line.split()[1].removesuffix(";")
    assert cookies((f"Cookie: {kept}",)) == (None, [])
    old = mark(KEY, "mel", NOW - LIFETIME / 2 - 1).decode()
    assert cookies((f"Cookie: gwsite={old}",)) == (None, [line]), "it is renewed"
    here = mark(KEY, "osl", NOW - LIFETIME / 2 - 1).decode()
    site, (line,) = cookies((f"Cookie: gwsite={here}",))
    assert line.startswith("Set-Cookie: gwsite=osl."), "a client that was sent here stays, too"
    assert cookies((f"Cookie: gwsite={mark(KEY, 'osl', NOW - 9999).decode()}",))[0] == "syd"

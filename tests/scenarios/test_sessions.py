"""Sessions and the waiting room in a whole gateway: admitted clients stay, all others see their place."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli import main
from tests.scenarios.test_qos import hold, wait
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient, Response
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def described(
    servers: list[BackendServer], workers: int = 2, qos: dict[str, Any] | None = None, **sessions: Any
) -> dict[str, Any]:
    sessions = {"max": 3, "waiting_room": {"refresh": "1s"}, **sessions}
    return {**site(servers, workers), "qos": {**(qos or {}), "sessions": sessions}}


class Browser:
    """Keeps cookies, and opens a connection for each request: any worker may get it."""

    def __init__(self, gateway: GatewayProcess, *fields: str) -> None:
        self.gateway = gateway
        self.fields = fields
        self.ticket = ""

    def ask(self, *fields: str, path: str = "/who", port: int = 0) -> Response:
        lines = [*self.fields, *fields, *([f"Cookie: a=b; GWSESSION={self.ticket}"] if self.ticket else [])]
        head = "".join(f"{line}\r\n" for line in lines)
        with RawClient(port or self.gateway.port) as client:
            answer = client.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
        found = re.match("GWSESSION=([^;]*)", answer.header("Set-Cookie") or "")
        self.ticket = found[1] if found else self.ticket
        return answer

    def waits(self) -> dict[str, Any]:
        """What it is told while it waits."""
        answer = self.ask("Accept: application/json")
        assert answer.status == 503, answer
        return dict(json.loads(answer.body))


def in_and_out(gateway: GatewayProcess, count: int) -> tuple[list[Browser], list[Browser]]:
    browsers = [Browser(gateway) for _ in range(count)]
    states = [browser.ask().status for browser in browsers]
    return (
        [browser for browser, status in zip(browsers, states, strict=True) if status == 200],
        [browser for browser, status in zip(browsers, states, strict=True) if status == 503],
    )


def sessions_of(gateway: GatewayProcess) -> dict[str, Any]:
    return dict(gateway.status()["sessions"])


def test_so_many_are_let_in_over_all_workers_and_stay_in(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=8, workers=2))
    browsers = [Browser(gateway) for _ in range(24)]
    first: list[int] = []

    def visit(part: list[Browser]) -> None:
        first.extend(browser.ask().status for browser in part)

    threads = [threading.Thread(target=visit, args=(browsers[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Counter(first) == {200: 8, 503: 16}
    again = Counter(browser.ask().status for browser in browsers for _ in range(3))
    assert again == {200: 24, 503: 48}
    found = sessions_of(gateway)
    assert [found["live"], found["max"], found["waiting"], found["present"]] == [8, 8, 16, 16]


def test_waiting_clients_see_their_places_and_enter_in_order(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=1, idle="2s"))
    inside, queue = in_and_out(gateway, 4)
    assert len(inside) == 1
    assert [browser.waits()["place"] for browser in queue] == [1, 2, 3]
    listed = sessions_of(gateway)["queue"]
    assert [(one["place"], one["present"]) for one in listed] == [(1, True), (2, True), (3, True)]
    entered: list[Browser] = []

    def one_more() -> bool:
        for browser in reversed(queue):  # the last one asks first
            if browser not in entered and browser.ask().status == 200:
                entered.append(browser)
        return len(entered) == len(queue)

    eventually(one_more, "all to have entered", seconds=30)
    assert entered == queue


def test_the_page_refreshes_itself_and_can_be_read(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=1, waiting_room={"refresh": "7s"}))
    _, (waiting,) = in_and_out(gateway, 2)
    answer = waiting.ask("Accept: text/html")
    page = answer.body.decode()
    assert answer.header("Retry-After") == "7"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert '<noscript><meta http-equiv="refresh" content="7"></noscript>' in page
    assert "<title>Number 1 in the queue</title>" in page
    assert '<html lang="en">' in page
    assert 'role="status" aria-live="polite"' in page
    assert "You are number 1 in the queue." in page
    found = waiting.waits()
    assert [found["state"], found["place"], found["waiting"], found["refresh_seconds"]] == ["waiting", 1, 1, 7]
    assert found["text"].startswith("You are number 1 in the queue.")


def test_pages_of_the_site(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    wait, full = tmp_path / "wait.html", tmp_path / "full.html"
    wait.write_text("<style>b{color:red}</style>{place} of {waiting}, {class}, {estimate}, {refresh} {other}")
    full.write_text("<h1>sorry</h1>")
    gateway = start_gateway(
        described(
            start_servers("app1"),
            qos={"classes": [{"name": "visitor"}]},
            max=1,
            waiting_room={"places": 1, "page": str(wait)},
            full={"status": 429, "page": str(full)},
        )
    )
    browsers = [Browser(gateway) for _ in range(3)]
    answers = [browser.ask() for browser in browsers]
    assert [answer.status for answer in answers] == [200, 503, 429]
    assert answers[1].body == b"<style>b{color:red}</style>1 of 1, visitor, unknown, 5 {other}"
    assert answers[1].header("Refresh") == "5"
    assert answers[2].body == b"<h1>sorry</h1>"
    assert answers[2].header("Retry-After")
    assert answers[2].header("Set-Cookie") is None


def test_forged_and_used_tickets_are_worth_nothing(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=1))
    (inside,), (waiting,) = in_and_out(gateway, 2)
    inside.ask()
    for position in range(0, 40, 3):
        forged = Browser(gateway)
        letter = "A" if inside.ticket[position] != "A" else "B"
        forged.ticket = inside.ticket[:position] + letter + inside.ticket[position + 1 :]
        assert forged.ask().status == 503
    for nonsense in ("", "x", "A" * 40, "A" * 4000, '"%s"' % ("A" * 40)):
        forged = Browser(gateway)
        forged.ticket = nonsense
        assert forged.ask().status == 503
    twin = Browser(gateway)  # a ticket in two hands is one place
    twin.ticket = waiting.ticket
    assert [twin.waits()["place"], waiting.waits()["place"]] == [1, 1]


def test_assets_get_no_place_and_no_page(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=1))
    assert Browser(gateway).ask("Sec-Fetch-Dest: image").status == 200
    (inside,), _ = in_and_out(gateway, 1)
    assert inside.ask("Sec-Fetch-Dest: style").status == 200
    for field in ("Sec-Fetch-Dest: image", "Sec-Fetch-Dest: script", "Accept: image/avif,image/webp,*/*"):
        answer = Browser(gateway).ask(field)
        assert [answer.status, answer.body, answer.header("Set-Cookie")] == [503, b"", None]
        assert answer.header("Retry-After")
    assert sessions_of(gateway)["waiting"] == 0


def test_classes_that_are_always_admitted_need_no_session(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(
        described(
            start_servers("app1"),
            qos={"classes": [{"name": "staff", "match": {"header": {"X-Staff": "1"}}, "admit": "always"}]},
            max=1,
        )
        | {"routes": [{"match": {"path": "/own"}, "respond": {"status": 200}}, {"backend": "app"}]}
    )
    in_and_out(gateway, 2)
    assert Browser(gateway, "X-Staff: 1").ask().status == 200
    assert Browser(gateway).ask(path="/own").status == 200  # the gateway's own answers use no server
    assert sessions_of(gateway)["live"] == 1


def test_a_session_in_the_url(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), max=1, key={"url": "gwsession"}))
    answer = Browser(gateway).ask(path="/who?a=1")
    target = answer.header("Location") or ""
    assert answer.status == 307
    assert re.fullmatch(r"/who\?a=1&gwsession=[A-Za-z0-9_-]{40}", target)
    assert [Browser(gateway).ask(path=target).status for _ in range(3)] == [200] * 3
    waiting = Browser(gateway).ask(path="//who/?a=1")
    found = re.search(r'content="1; url=([^"]*)"', waiting.body.decode())
    assert waiting.status == 503
    assert found
    assert found[1].startswith("/.//who/?a=1&amp;gwsession=")
    again = Browser(gateway).ask("Accept: application/json", path=found[1].removeprefix("/.").replace("&amp;", "&"))
    assert json.loads(again.body)["place"] == 1


def test_sessions_and_places_outlive_crash_reload_and_upgrade(start_gateway: Starter, start_servers: Servers) -> None:
    description = described(start_servers("app1"), max=3)
    gateway = start_gateway(description)
    inside, queue = in_and_out(gateway, 6)

    def same() -> None:
        assert [browser.ask().status for browser in inside] == [200] * 3
        assert [browser.waits()["place"] for browser in queue] == [1, 2, 3]

    same()
    gateway.kill_worker(0)
    same()
    gateway.reload({**description, "drain": "3s"})
    same()
    gateway.upgrade()
    same()
    found = sessions_of(gateway)
    assert [found["live"], found["waiting"], found["adopted"]] == [3, 3, 0]


def test_another_gateway_of_the_cluster_takes_sessions_over(start_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1")
    here = start_gateway(described(servers, max=1))
    (visitor,), _ = in_and_out(here, 1)
    visitor.ask()
    here.stop()
    # The same key, a new table: as another gateway of the cluster has it, or the same one after a restart.
    there = start_gateway(described(servers, max=1))
    (other,), _ = in_and_out(there, 1)
    other.ask()
    assert Browser(there).ask().status == 503
    visitor.gateway = there
    assert [visitor.ask().status for _ in range(3)] == [200] * 3
    found = sessions_of(there)
    assert [found["live"], found["max"], found["adopted"]] == [2, 1, 1]


def test_what_is_seen(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    gateway = start_gateway(described(start_servers("app1"), max=1) | {"access_log": {"path": str(log)}})
    (inside,), (waiting,) = in_and_out(gateway, 2)
    inside.ask()
    waiting.ask()

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    eventually(lambda: len(lines()) == 4, "the log")
    found = Counter((line["session"], line["outcome"], line["status"]) for line in lines())
    assert found == {("new", "ok", 200): 1, ("live", "ok", 200): 1, ("waiting", "waiting", 503): 2}
    sessions_of(gateway)  # control answers
    shown = CliRunner().invoke(main, ["status", str(gateway.path)]).output
    assert re.search(r"^sessions +1/1 +1/5000 +1 ", shown, re.MULTILINE)


def test_at_the_opening_every_client_gets_a_place(start_gateway: Starter, start_servers: Servers) -> None:
    opens = time.time() + 4
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(opens))
    gateway = start_gateway(described(start_servers("app1"), max=2, opens=moment))
    early = [Browser(gateway) for _ in range(8)]
    told = [browser.waits() for browser in early]
    assert {item["state"] for item in told} == {"early"}
    assert all("UTC" in item["opens"] for item in told)

    def open_now() -> bool:
        return Browser(gateway, "Sec-Fetch-Dest: image").ask().status == 503 and time.time() > opens

    eventually(open_now, "the opening", seconds=10)
    states = [browser.ask("Accept: application/json") for browser in early]
    late = Browser(gateway)
    late.waits()
    assert Counter(answer.status for answer in states) == {200: 2, 503: 6}
    queue = [browser for browser, answer in zip(early, states, strict=True) if answer.status == 503]
    eventually(lambda: late.waits()["place"] == 7, "the places to be counted")
    assert sorted(browser.waits()["place"] for browser in queue) == [1, 2, 3, 4, 5, 6]


def test_with_a_measured_limit_no_session_begins_while_servers_are_full_and_sessions_are_served(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    qos = {
        "classes": [{"name": "staff", "match": {"header": {"X-Staff": True}}, "admit": "always"}, {"name": "rest"}],
        "overload": {"concurrency": "off", "target_delay": "20ms"},
    }
    model = described([server], qos=qos, max="auto", idle="60s")
    del model["qos"]["sessions"]["waiting_room"]
    model["backends"]["app"]["servers"] = [{"address": server.address, "max_connections": 2}]
    model["backends"]["app"]["queue"] = {"timeout": "60s"}
    gateway = start_gateway(model)
    browsers = [Browser(gateway), Browser(gateway)]
    assert [browser.ask().status for browser in browsers] == [200, 200]
    mine = [f"Cookie: GWSESSION={browser.ticket}" for browser in browsers]
    held = [*hold(gateway, server, 1, mine[0]), *hold(gateway, server, 1, mine[1])]
    waiting = wait(gateway, *mine)

    new: list[RawClient] = []

    def is_full() -> bool:
        # Each measurement is of the moment before, so the first ones may see a free place; those clients wait.
        new.append(RawClient(gateway.port))
        new[-1].send(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        return bool(sessions_of(gateway)["measured_why"] == "full")

    eventually(is_full, "the servers to be full")
    refused = Browser(gateway).ask()
    assert (refused.status, b"All places are taken" in refused.body) == (503, True)
    with RawClient(gateway.port) as staff:
        staff.send(b"GET /who HTTP/1.1\r\nHost: a\r\nX-Staff: 1\r\n\r\n")
        assert staff.response().status == 503  # shed after its wait: so long have the others waited, too
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 4
    eventually(lambda: Browser(gateway).ask().status == 200, "a new client to get a session")
    for client in (*held, *waiting, *new):
        client.close()

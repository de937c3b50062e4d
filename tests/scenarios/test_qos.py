"""Classes and rates in a whole gateway. Rates are so slow that nothing is made up for while a test runs."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.half_client import reset
from tests.support.kernel import send_and_wait
from tests.support.raw import RawClient, Response
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

SLOW = "10/h"


def described(servers: list[BackendServer], *classes: dict[str, Any], workers: int = 1, **more: Any) -> dict[str, Any]:
    return {**site(servers, workers), "qos": {"classes": list(classes)}, **more}


def ask(gateway: GatewayProcess, path: str = "/who", *fields: str) -> Response:
    """Over a connection of its own."""
    lines = "".join(f"{field}\r\n" for field in fields)
    with RawClient(gateway.port) as client:
        return client.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())


def statuses(gateway: GatewayProcess, count: int, *fields: str, path: str = "/who") -> list[int]:
    return [ask(gateway, path, *fields).status for _ in range(count)]


def of_class(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    return next(item for item in gateway.status()["classes"] if item["name"] == name)


# ----------------------------------------------------------------------------------------------------------------- rates


def test_a_rate_holds_exactly_over_all_workers(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 20}, workers=4))
    found: Counter[int] = Counter()

    def many() -> None:
        found.update(statuses(gateway, 20))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {200: 20, 429: 60}


def test_a_client_over_its_rate_is_told_when_to_come_back(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(described(start_servers("app1"), {"name": "visitor", "rate": "60/h", "burst": 2}))
    with RawClient(gateway.port) as client:
        assert [client.get().status for _ in range(2)] == [200, 200]
        refused = client.get()
        assert refused.status == 429
        assert 1 <= int(refused.header("Retry-After") or 0) <= 60
        assert refused.header("RateLimit-Policy") == '"visitor";q=2;w=120'
        assert refused.header("RateLimit") == f'"visitor";r=0;t={refused.header("Retry-After")}'
        assert refused.header("X-Request-ID")
        assert client.get().status == 429  # the connection goes on


def test_each_source_has_the_rate_to_itself(start_gateway: Starter, start_servers: Servers) -> None:
    description = described(
        start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 2, "per": "source"}, workers=2
    )
    description["frontends"][0]["trusted_proxies"] = ["127.0.0.1"]
    gateway = start_gateway(description)
    first, second = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
    assert statuses(gateway, 3, first) == [200, 200, 429]
    assert statuses(gateway, 3, second) == [200, 200, 429]
    same = [f"X-Forwarded-For: 2001:db8:0:1::{i}" for i in (1, 2, 3)]  # a /64 is one client
    assert [ask(gateway, "/who", field).status for field in same] == [200, 200, 429]
    assert ask(gateway, "/who", "X-Forwarded-For: 2001:db8:0:2::1").status == 200
    assert ask(gateway, "/who", "X-Forwarded-For: ::ffff:192.0.2.1").status == 429  # an IPv4 address in disguise


@pytest.mark.parametrize(
    "per, one, other",
    [
        ("header:X-Key", ("/who", "x-key: a"), ("/who", "X-Key: b")),
        ("cookie:id", ("/who", "Cookie: x=1; id=a"), ("/who", "Cookie: id=b")),
        ("query:key", ("/who?key=%61", "X: 1"), ("/who?key=b", "X: 1")),
        ("{path}|{header:X-Key}", ("/who", "X-Key: a"), ("/bytes/1", "X-Key: a")),
    ],
)
def test_each_value_has_the_rate_to_itself(
    start_gateway: Starter, start_servers: Servers, per: str, one: tuple[str, str], other: tuple[str, str]
) -> None:
    gateway = start_gateway(described(start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 1, "per": per}))
    for path, field in (one, other):
        assert statuses(gateway, 2, field, path=path) == [200, 429]
    assert statuses(gateway, 2) == [200, 429]  # those without a value share one


def test_no_value_hides_behind_another(start_gateway: Starter, start_servers: Servers) -> None:
    """Neither by a class's rate nor by a route's; what the second one refuses, the first has not counted."""
    description = described(start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 2, "per": "cookie:id"})
    limit = {"match": {"path": "/who"}, "rate": SLOW, "burst": 1, "per": "query:key"}
    gateway = start_gateway(description | {"routes": [limit, {"backend": "app"}]})
    assert statuses(gateway, 1, "Cookie: id=a", path="/who?key=1") == [200]
    assert statuses(gateway, 3, "Cookie: id=a", path="/who?key=2&key=1") == [429] * 3
    assert statuses(gateway, 1, "Cookie: id=a", path="/who?key=3") == [200]
    for number in range(3):
        assert statuses(gateway, 1, f"Cookie: id=x{number}; id= a", path=f"/who?key=other{number}") == [429]
        assert statuses(gateway, 1, f"Cookie: id=x{number}", path=f"/who?key=more{number}") == [200]


def test_rates_of_routes_and_class_hold_together(start_gateway: Starter, start_servers: Servers) -> None:
    description = described(start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 4})
    description["routes"] = [
        {"match": {"path": "/bytes/"}, "rate": SLOW, "burst": 2},
        {"match": {"path": "/here"}, "respond": {"body": "here"}},
        {"match": {"path": "/there"}, "redirect": "/here"},
        {"match": {"path": "/who"}, "backend": "app"},
        {"match": {"path": "/bytes/"}, "backend": "app"},
    ]
    gateway = start_gateway(description)
    assert statuses(gateway, 4, path="/bytes/1") == [200, 200, 429, 429]
    refused = ask(gateway, "/bytes/1")
    assert refused.header("RateLimit-Policy") == '"route-0";q=2;w=720'
    # What the route refused has cost the class nothing; answers of the gateway itself and 404s count as well.
    assert [ask(gateway, path).status for path in ("/here", "/there", "/here", "/there", "/nothing", "/who")] == [
        200, 302, 429, 429, 429, 429,
    ]  # fmt: skip


def test_what_is_over_a_rate_in_a_dry_run_is_counted_only(start_gateway: Starter, start_servers: Servers) -> None:
    limits = {"rate": SLOW, "burst": 2, "dry_run": True, "concurrency": 1}
    gateway = start_gateway(described(start_servers("app1"), {"name": "all", **limits}))
    assert statuses(gateway, 5) == [200] * 5
    assert of_class(gateway, "all")["over"] == 3


def test_counts_survive_a_reload_and_the_death_of_a_worker(start_gateway: Starter, start_servers: Servers) -> None:
    description = described(start_servers("app1"), {"name": "all", "rate": SLOW, "burst": 2})
    gateway = start_gateway(description)
    assert statuses(gateway, 3) == [200, 200, 429]
    gateway.reload({**description, "drain": "1s"})
    assert statuses(gateway, 1) == [429]
    gateway.kill(gateway.workers()[0], signal.SIGKILL)
    eventually(lambda: len(gateway.workers()) == 1 and statuses(gateway, 1) == [429], "another worker to serve")
    gateway.reload({**description, "qos": {"classes": [{"name": "all", "rate": SLOW, "burst": 3}]}})
    assert statuses(gateway, 1) == [200]  # another limit begins anew


# ----------------------------------------------------------------------------------------------------------------- delay


def test_a_delayed_request_waits_for_its_turn(start_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    limits = {"rate": "5/s", "burst": 1, "delay": "20s", "per": "header:X-Key"}
    gateway = start_gateway(described([server], {"name": "all", **limits}))
    clients = [RawClient(gateway.port) for _ in range(4)]
    try:
        began = time.monotonic()
        for client in clients:
            client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert [client.response("POST").status for client in clients] == [200] * 4
        assert time.monotonic() - began >= 0.59  # three intervals
    finally:
        for client in clients:
            client.close()
    seen = of_class(gateway, "all")
    assert seen["waited"] == 3
    assert seen["waited_seconds"] == pytest.approx(0.2 + 0.4 + 0.6, abs=0.1)
    assert server.count == 4


def test_a_delay_has_an_end(start_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    description = described([server], {"name": "all", "rate": "60/h", "burst": 1, "delay": "70s"}, drain="1s")
    description["routes"] = [{"match": {"path": "/here"}, "respond": {"body": "here"}}, {"backend": "app"}]
    gateway = start_gateway(description)
    assert ask(gateway).status == 200
    with RawClient(gateway.port) as waits:
        send_and_wait(waits.socket, b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: ask(gateway).status == 429, "the next to be too many")
        assert ask(gateway, "/here").status == 429  # answers of the gateway itself are not delayed
        assert server.count == 1
        reset(waits.socket)
    eventually(lambda: of_class(gateway, "all")["outcomes"].get("client_left") == 1, "the client to be missed")
    assert server.count == 1


# ----------------------------------------------------------------------------------------------------------------- admit


def test_a_class_that_is_never_admitted(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    banned = {"name": "banned", "match": {"header": {"User-Agent": "~bot"}}, "admit": "never"}
    description = described([server], banned, {"name": "rest"})
    description["routes"] = [{"match": {"path": "/here"}, "respond": {"body": "here"}}, {"backend": "app"}]
    gateway = lend_gateway(description)
    assert ask(gateway, "/who", "User-Agent: a bot").status == 403
    assert ask(gateway, "/here", "User-Agent: a bot").status == 403
    assert ask(gateway, "/who", "User-Agent: a person").status == 200
    assert server.count == 1
    assert of_class(gateway, "banned")["outcomes"] == {"not_admitted": 2}
    assert (of_class(gateway, "banned")["admitted"], of_class(gateway, "rest")["admitted"]) == (0, 1)


def test_no_limit_holds_for_a_class_that_is_always_admitted(start_gateway: Starter, start_servers: Servers) -> None:
    staff = {"name": "staff", "match": {"header": {"X-Staff": True}}, "admit": "always"}
    description = described(start_servers("app1"), staff, {"name": "rest"})
    description["routes"] = [{"rate": SLOW, "burst": 1}, {"backend": "app"}]
    gateway = start_gateway(description)
    assert statuses(gateway, 3, "X-Staff: 1") == [200] * 3
    assert statuses(gateway, 2) == [200, 429]
    assert statuses(gateway, 1, "X-Staff: 1") == [200]


def test_the_class_that_counts_is_the_one_after_the_routes(start_gateway: Starter, start_servers: Servers) -> None:
    description = described(
        start_servers("app1"), {"name": "rest", "match": {"path": "/"}}, {"name": "few", "rate": SLOW, "burst": 1}
    )
    description["routes"] = [{"match": {"header": {"X-Few": True}}, "class": "few"}, {"backend": "app"}]
    gateway = start_gateway(description)
    assert statuses(gateway, 2, "X-Few: 1") == [200, 429]
    assert statuses(gateway, 2) == [200, 200]


# ----------------------------------------------------------------------------------------------- concurrency and waiting


def hold(gateway: GatewayProcess, server: BackendServer, count: int, field: str = "X: 1") -> list[RawClient]:
    """Clients whose requests are at the server until the file `go` is there."""
    clients = []
    for _ in range(count):
        client = RawClient(gateway.port)
        before = server.count
        client.send(f"GET /when/go HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
        eventually(lambda before=before: server.count == before + 1, "it to be at the server")  # type: ignore[misc]
        clients.append(client)
    return clients


def test_a_class_has_no_more_requests_at_servers_than_its_concurrency(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    few = {"name": "few", "match": {"header": {"X-Few": True}}, "concurrency": 2}
    gateway = lend_gateway(described([server], few, {"name": "rest"}, workers=3))
    held = hold(gateway, server, 2, "X-Few: 1")
    assert of_class(gateway, "few")["in_flight"] == 2
    refused = ask(gateway, "/who", "X-Few: 1")
    assert (refused.status, refused.header("Retry-After")) == (503, "5")
    assert ask(gateway).status == 200
    (tmp_path / "go").touch()
    assert [client.response().status for client in held] == [200, 200]
    for client in held:
        client.close()
    eventually(lambda: of_class(gateway, "few")["in_flight"] == 0, "the counts to return")
    assert ask(gateway, "/who", "X-Few: 1").status == 200
    assert of_class(gateway, "few")["outcomes"] == {"ok": 3, "class_full": 1}


def queueing(server: BackendServer, places: int, *classes: dict[str, Any], workers: int = 1) -> dict[str, Any]:
    description = described([server], *classes, workers=workers)
    servers = [{"name": server.name, "address": server.address, "max_connections": places}]
    description["backends"]["app"] = {"servers": servers, "queue": {"limit": 100, "timeout": "30s"}}
    return description


def queued(gateway: GatewayProcess) -> int:
    """How many requests wait."""
    return sum(backend["queued"] for backend in gateway.status()["backends"])


def wait(gateway: GatewayProcess, *fields: str) -> list[RawClient]:
    """A client for each field, whose requests have begun to wait in this order."""
    clients = [RawClient(gateway.port) for _ in fields]
    before = queued(gateway)
    for i, (client, field) in enumerate(zip(clients, fields, strict=True)):
        client.send(f"GET /who?{i} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
        eventually(lambda i=i: queued(gateway) == before + i + 1, "it to wait")  # type: ignore[misc]
    return clients


def order(server: BackendServer) -> list[int]:
    """By their numbers, those that have waited in the order in which they came to the server."""
    targets = [bytes(request.head).split(b" ")[1] for request in server.requests()]
    return [int(target[5:]) for target in targets if target.startswith(b"/who?")]


def test_a_class_at_its_concurrency_holds_up_no_other(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    few = {"name": "few", "match": {"header": {"X-Few": True}}, "priority": 0, "concurrency": 1}
    gateway = lend_gateway(queueing(server, 10, few, {"name": "rest"}))
    held = hold(gateway, server, 1, "X-Few: 1")
    waiting = wait(gateway, "X-Few: 1", "X-Few: 1")
    assert ask(gateway).status == 200
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 3
    for client in (*held, *waiting):
        client.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_of_those_that_wait_the_higher_priority_goes_first(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path, workers: int
) -> None:
    (server,) = start_servers("app1")
    classes = [
        {"name": "low", "match": {"header": {"X-Class": "low"}}, "priority": 9},
        {"name": "high", "match": {"header": {"X-Class": "high"}}, "priority": 1},
    ]
    gateway = lend_gateway(queueing(server, 1, *classes, workers=workers))
    held = hold(gateway, server, 1)
    fields = ["X-Class: low", "X-Class: none", "X-Class: high", "X-Class: low", "X-Class: none", "X-Class: high"]
    waiting = wait(gateway, *fields)
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 7
    for client in (*held, *waiting):
        client.close()
    assert order(server) == [2, 5, 1, 4, 0, 3]


def test_an_unused_share_is_available_to_all_classes(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    classes = [
        {"name": "paying", "match": {"header": {"X-Class": "paying"}}, "priority": 9, "share": "50%"},
        {"name": "rest", "priority": 1},
    ]
    gateway = lend_gateway(queueing(server, 2, *classes, workers=2))
    held = hold(gateway, server, 2)  # both places: the share is idle
    waiting = wait(gateway, "X: 1", "X-Class: paying", "X: 1", "X-Class: paying")
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 6
    for client in (*held, *waiting):
        client.close()
    # Below its share, in spite of its priority; which of its two comes first is up to the workers that they wait in.
    assert order(server)[0] in {1, 3}
    assert sorted(order(server)) == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------------------ seen


def test_what_is_seen_of_a_class(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    limited = {"name": "visitor", "rate": SLOW, "burst": 2}
    gateway = start_gateway(described(start_servers("app1"), limited, access_log=str(log), drain="1s"))
    assert statuses(gateway, 3) == [200, 200, 429]
    gateway.status()  # control answers by now
    metrics = CliRunner().invoke(main, ["status", str(gateway.path), "--metrics"]).stdout
    for line in (
        'gateway_class_admitted_total{class="visitor"} 2',
        'gateway_class_outcomes_total{class="visitor",outcome="rate_limited",side="client"} 1',
        'gateway_class_request_duration_seconds_count{class="visitor"} 3',
        'gateway_class_responses_total{class="visitor",code="4xx"} 1',
        'gateway_class_in_flight{class="visitor"} 0',
    ):
        assert line in metrics
    shown = CliRunner().invoke(main, ["status", str(gateway.path)]).stdout
    assert "visitor: rate_limited 1" in shown
    eventually(lambda: log.read_text().count("\n") == 3, "the log to be written")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["class"], line["outcome"], line["side"]) for line in lines] == [
        ("visitor", "ok", ""),
        ("visitor", "ok", ""),
        ("visitor", "rate_limited", "client"),
    ]


def test_explain_and_test_say_what_admission_holds_against_a_request(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        json.dumps(
            {
                "frontends": [{"listen": "127.0.0.1:80"}],
                "backends": {"app": {"servers": ["127.0.0.1:1"]}},
                "routes": [{"match": {"path": "/api/"}, "rate": "5/s", "per": "header:X-Key"}, {"backend": "app"}],
                "qos": {
                    "classes": [
                        {"name": "banned", "match": {"source": "203.0.113.0/24"}, "admit": "never"},
                        {"name": "customer", "rate": "50/s", "burst": 10, "per": "source", "concurrency": 5},
                    ]
                },
                "tests": [
                    {"request": "GET http://a/", "client": "203.0.113.9", "expect": {"status": 403, "class": "banned"}},
                    {"request": "GET http://a/", "expect": {"backend": "app", "class": "customer"}},
                ],
            }
        )
    )
    done = CliRunner().invoke(main, ["test", str(path)])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(main, ["explain", str(path), "GET", "http://a/api/x"]).output
    assert "admission: priority 7; rate 50/s, burst 10, per source; concurrency 5" in shown
    assert "admission: route-0: rate 5/s, burst 5, per header:X-Key" in shown
    banned = CliRunner().invoke(main, ["explain", str(path), "GET", "http://a/", "--client", "203.0.113.9"]).output
    assert "admission: admit: never" in banned
    assert "answered here with 403" in banned

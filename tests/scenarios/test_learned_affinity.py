"""Sessions in a cookie that the servers set: the gateway adds which server it was, which no server needs to know."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient, Response
from tests.support.switch_server import SwitchServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
AFFINITY = {"cookie": "JSESSIONID", "learn": True}
ATTRIBUTES = "; Path=/shop; HttpOnly; SameSite=Lax; Expires=Wed, 21 Oct 2099 07:28:00 GMT"


@pytest.fixture
def servers() -> Iterator[list[SwitchServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(SwitchServer(name)) for name in ("app1", "app2", "app3")]


def sets(server: SwitchServer, value: str | None, attributes: str = ATTRIBUTES) -> None:
    """Let a server set the cookie with every answer, or not at all."""
    fields = () if value is None else (("Set-Cookie", f"JSESSIONID={value}{attributes}"), ("Set-Cookie", "a=b"))
    server.work = (0.0, 200, fields)


def cookie(answer: Response) -> str | None:
    """Return what the answer sets as JSESSIONID: the value and what follows it."""
    values = [value for name, value in answer.fields if name.lower() == "set-cookie" and value.startswith("JSESSIONID")]
    assert len(values) < 2
    return values[0].partition("=")[2] if values else None


def heard(server: SwitchServer) -> list[str]:
    """Return the Cookie lines of the last request at a server."""
    return [line.partition(": ")[2] for line in server.heads[-1].split("\n") if line.lower().startswith("cookie:")]


def begin(client: RawClient, servers: list[SwitchServer]) -> tuple[SwitchServer, str]:
    """Begin a session; its server and the client's value of the cookie."""
    for server in servers:
        sets(server, "abc123")
    answer = client.get("/shop")
    for server in servers:
        sets(server, None)
    value, _, attributes = (cookie(answer) or "").partition(";")
    assert f";{attributes}" == ATTRIBUTES
    assert value.endswith("~abc123")
    assert [v for n, v in answer.fields if n.lower() == "set-cookie" and v.startswith("a=")] == ["a=b"]
    return next(server for server in servers if server.name.encode() == answer.body), value


def test_the_cookie_brings_the_client_back_and_the_server_sees_its_own(
    lend_gateway: Starter, servers: list[SwitchServer]
) -> None:
    gateway = lend_gateway(site(servers, workers=2, affinity=AFFINITY))
    with RawClient(gateway.port) as client:
        home, value = begin(client, servers)
        for line in (f"JSESSIONID={value}", f"a=b; JSESSIONID={value};c=d", f"XJSESSIONID=1; JSESSIONID={value}"):
            answer = client.get("/shop", f"Cookie: {line}", "X: y")
            assert (answer.body, cookie(answer)) == (home.name.encode(), None)
            assert heard(home) == [line.replace(value, "abc123")]
            assert home.heads[-1].count("X: y") == 1
        answer = client.get("/shop", f"cookie: JSESSIONID={value}; a=b", f"Cookie: JSESSIONID={value}")
        assert heard(home) == ["JSESSIONID=abc123; a=b", "JSESSIONID=abc123"]
        assert len({client.get("/shop").body for _ in range(3)}) == 3
    with RawClient(gateway.port) as client:
        assert client.get("/shop", f"Cookie: JSESSIONID={value}").body == home.name.encode()


def test_what_is_not_as_it_was_signed_leads_nowhere_but_loses_its_mark(
    lend_gateway: Starter, servers: list[SwitchServer]
) -> None:
    gateway = lend_gateway(site(servers, affinity=AFFINITY))
    with RawClient(gateway.port) as client:
        home, value = begin(client, servers)
        mark = value.partition("~")[0]
        # Another session's value under this mark belongs where all gateways agree on: not always to this server.
        for other, sent in ((f"{mark}~other{i}", f"other{i}") for i in range(20)):
            bodies = {client.get("/shop", f"Cookie: JSESSIONID={other}").body for _ in range(3)}
            assert len(bodies) == 1
            at = next(server for server in servers if server.name.encode() in bodies)
            assert heard(at) == [f"JSESSIONID={sent}"]
        homes = {client.get("/shop", f"Cookie: JSESSIONID={mark}~other{i}").body for i in range(20)}
        assert len(homes) == 3
        for odd in ("", "gw.~", "gw.AAAA~x", "gw.", "gw.***~x", "~", "gw." + "A" * 400 + "~x", "gw." + "A" * 40):
            assert client.get("/shop", f"Cookie: JSESSIONID={odd}").status == 200
        assert home.name


def test_a_session_whose_server_is_gone_moves_and_the_cookie_is_written_anew(
    lend_gateway: Starter, servers: list[SwitchServer]
) -> None:
    check = {"http": "/check", "interval": "100ms", "rise": 1, "fall": 1}
    gateway = lend_gateway(site(servers, affinity=AFFINITY, check=check))
    with RawClient(gateway.port) as client:
        home, value = begin(client, servers)
        home.status = 503
        gateway.wait_for_log(f"{home.name} is DOWN")
        answer = client.get("/shop", f"Cookie: JSESSIONID={value}")
        assert answer.body != home.name.encode()
        moved = next(server for server in servers if server.name.encode() == answer.body)
        assert heard(moved) == ["JSESSIONID=abc123"]
        new, _, attributes = (cookie(answer) or "").partition(";")
        assert new.endswith("~abc123")
        assert new != value
        assert f";{attributes}" == ATTRIBUTES
        home.status = 200
        gateway.wait_for_log(f"{home.name} is UP")
        for _ in range(3):  # for good
            answer = client.get("/shop", f"Cookie: JSESSIONID={new}")
            assert (answer.body, cookie(answer)) == (moved.name.encode(), None)
        # A server that begins another session has its own say.
        home.status = 503
        gateway.wait_for_log(f"{home.name} is DOWN")
        for server in servers:
            sets(server, "fresh", "; Path=/")
        renewed = cookie(client.get("/shop", f"Cookie: JSESSIONID={value}")) or ""
        assert renewed.endswith("~fresh; Path=/")


def test_attributes_that_are_too_long_and_cookies_that_are_deleted(
    lend_gateway: Starter, servers: list[SwitchServer]
) -> None:
    gateway = lend_gateway(site(servers, affinity=AFFINITY))
    with RawClient(gateway.port) as client:
        long = "; Path=/" + "x" * 300
        for server in servers:
            sets(server, "abc", long)
        first = client.get("/shop")
        value, _, attributes = (cookie(first) or "").partition(";")
        assert f";{attributes}" == long
        assert len(value) < 100
        assert client.get("/shop", f"Cookie: JSESSIONID={value}").body == first.body
        for server in servers:
            sets(server, "", "; Max-Age=0")
        assert cookie(client.get("/shop", f"Cookie: JSESSIONID={value}")) == "; Max-Age=0"


def test_it_outlives_reloads_and_holds_at_other_gateways(
    lend_gateway: Starter, servers: list[SwitchServer], tmp_path: Path
) -> None:
    key = tmp_path / "affinity.key"
    key.touch(0o600)
    key.write_text("a key of this test alone, 0123456789")
    affinity = {**AFFINITY, "key_file": str(key)}
    first = lend_gateway(site(servers, affinity=affinity))
    with RawClient(first.port) as client:
        home, value = begin(client, servers)
        first.write({**first.site, "backends": site(servers[::-1], affinity=affinity)["backends"]})
        first.reload()
        eventually(lambda: client.get("/shop", f"Cookie: JSESSIONID={value}").body == home.name.encode(), "the reload")
    (tmp_path / "second").mkdir()
    with ExitStack() as stack:
        second = stack.enter_context(GatewayProcess(tmp_path / "second", site(servers[::-1], affinity=affinity)))
        client = stack.enter_context(RawClient(second.port))
        for _ in range(3):
            assert client.get("/shop", f"Cookie: JSESSIONID={value}").body == home.name.encode()


RULES = """\
def route(request):
    seen = (request.cookie("JSESSIONID"), request.header("Cookie"))
    return {"append_header": {"X-By": "python"}} if seen == ("abc123", "a=b; JSESSIONID=abc123") else None
"""
APACHE = """\
RewriteEngine On
RewriteCond %{HTTP_COOKIE} ^a=b;\\sJSESSIONID=abc123$
RewriteRule ^shop$ /by-apache [L]
"""


def test_rules_and_every_server_see_what_the_application_gave(
    start_gateway: Starter, servers: list[SwitchServer], tmp_path: Path
) -> None:
    (tmp_path / "seen.py").write_text(RULES)
    (tmp_path / "seen.htaccess").write_text(APACHE)
    description = site(servers[:2], affinity=AFFINITY)
    description["backends"]["plain"] = {"servers": [servers[2].address]}  # knows nothing of the cookie
    pattern = {"header": {"Cookie": "~JSESSIONID=abc123$"}}
    description["qos"] = {"classes": [{"name": "known", "match": {"cookie": {"JSESSIONID": "abc123"}}}]}
    description["routes"] = [
        {"match": {"class": "known"}, "append_header": {"X-By": "class"}},
        {"match": {"cookie": {"JSESSIONID": "abc123"}}, "append_header": {"X-By": "cookie"}},
        {"match": pattern, "append_header": {"X-By": "header"}},
        {"match": {"when": "cookies['JSESSIONID'] == 'abc123'"}, "append_header": {"X-By": "when"}},
        {"match": {"cookie": {"JSESSIONID": "~gw"}}, "respond": {"status": 418}},
        {"set_header": {"X-Session": "{cookie:JSESSIONID}"}},
        {"python": "seen:route"},
        {"apache": "seen.htaccess"},
        {"match": {"header": {"X-Plain": True}}, "backend": "plain"},
        {"backend": "app"},
    ]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        home, value = begin(client, servers)
        for server, fields in ((home, ()), (servers[2], ("X-Plain: 1",))):
            answer = client.get("/shop", f"Cookie: a=b; JSESSIONID={value}", *fields)
            assert answer.body == server.name.encode()
            assert heard(server) == ["a=b; JSESSIONID=abc123"]
            head = server.heads[-1].split("\n")
            assert head[0] == "GET /by-apache HTTP/1.1"
            assert "X-Session: abc123" in head
            assert [line for line in head if line.startswith("X-By")] == [
                f"X-By: {name}" for name in ("class", "cookie", "header", "when", "python")
            ]

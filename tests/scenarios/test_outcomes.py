"""Every end has a name: what the access log, the figures and the error log say of how a request ended, and its id.

One gateway has a backend for each fault, so that the log's one line in ten seconds is there for each; after every test
the figures must have grown by just what the access log says.
"""

import contextlib
import itertools
import re
import resource
import select
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway import outcome
from gateway.cli import main
from gateway.outcome import OUTCOMES
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, listeners
from tests.support.half_client import reset
from tests.support.lives import Log, ShutServer
from tests.support.raw import RawClient, Response
from tests.support.raw_server import RawServer, Script, read_head, replies
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Entry = dict[str, Any]

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
SIDES = {name: "" if side == "-" else side for name, side, _ in OUTCOMES}
ID = re.compile("[0-9a-f]{32}")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE_ID}-00f067aa0ba902b7-01"
LOG_PERIOD = 10.0  # seconds between two lines about a server that fails in the same way
FINE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine"
KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept"
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"  # TLS: fatal, protocol_version
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
LARGE = 64 << 20  # bytes: more than the kernels of all sides hold

# ---------------------------------------------------------------------------------------------------------- the servers


def fails_as(*blocks: bytes) -> Script:
    """Return a script that says something and closes in good order: all that has come is read."""
    return replies(*blocks)


def resets(connection: socket.socket, _: bytes) -> None:
    reset(connection)


def is_moody(connection: socket.socket, head: bytes) -> None:
    if b"?reset" in head:
        reset(connection)


def speaks_tls(context: ssl.SSLContext) -> Script:
    """Return a script that takes what has come for the beginning of a handshake, as servers do."""

    def script(connection: socket.socket, head: bytes) -> None:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        coming.write(head)
        with contextlib.suppress(ssl.SSLError):
            context.wrap_bio(coming, going, server_side=True).do_handshake()
        connection.sendall(going.read())

    return script


def answers_once(connection: socket.socket, _: bytes) -> None:
    """Close a kept connection when the next request comes."""
    connection.sendall(KEPT)
    connection.recv(65536)


def shows(connection: socket.socket, head: bytes) -> None:
    """Answer with the head that has come, and an id of its own."""
    while head:
        fields = f"Content-Length: {len(head)}\r\nX-Request-ID: the-server-s-own\r\n\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + fields.encode() + head)
        head = read_head(connection)


def sends_much(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    connection.sendall(bytes(LARGE))


def echoes(connection: socket.socket, _: bytes) -> None:
    connection.sendall(AGREED)
    while data := connection.recv(65536):
        connection.sendall(data)


def resets_tunnel(connection: socket.socket, _: bytes) -> None:
    connection.sendall(AGREED)
    connection.recv(65536)
    reset(connection)


SLOW: dict[str, Script] = {
    "banner": replies(b"SSH-2.0-OpenSSH_9.9\r\n", keep=True),
    "silent": replies(keep=True),
}
SCRIPTS: dict[str, Script] = {
    "closed": fails_as(),
    "reset": resets,
    "garbage": fails_as(b"220 mail.example.com ESMTP\r\n\r\n"),
    "alert": fails_as(ALERT),
    "half-head": fails_as(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "two-lengths": fails_as(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "bad-name": fails_as(b"HTTP/1.1 200 OK\r\nContent Length: 1\r\n\r\nx"),
    "bad-line": fails_as(b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx"),
    "short-line": fails_as(b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    "interims": fails_as(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + FINE),
    "unasked": fails_as(AGREED),
    "large-head": fails_as(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: %s\r\n" % (b"x" * 990) * 70 + b"\r\n"),
    "cut": fails_as(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"),
    "cut-chunks": fails_as(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    "bad-chunk": fails_as(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n"),
    "once": answers_once,
    "many": fails_as(),
    "moody": is_moody,
    "default-retries": fails_as(),
    "much": sends_much,
    "much-for-hasty": sends_much,
    "tunnel": echoes,
    "idle-tunnel": echoes,
    "reset-tunnel": resets_tunnel,
    "head": shows,
    "fine": fails_as(FINE),
    **SLOW,
}
HELD = ("queue", "busy", "held")  # answered when a test says so

# ---------------------------------------------------------------------------------------------------------- the gateway


@dataclass
class Setup:
    """A gateway, its access log, and the server behind most of its backends."""

    gateway: GatewayProcess
    log: Log
    server: RawServer
    free: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def port(self, frontend: str) -> int:
        names = [item["name"] for item in self.gateway.site["frontends"]]
        return listeners(self.gateway.site)[names.index(frontend)][1]

    def client(self, frontend: str = "web") -> RawClient:
        return RawClient(self.port(frontend))

    def uri(self, name: str) -> str:
        """A target that no other request of this module has."""
        return f"/{name}{'&' if '?' in name else '?'}{next(self.numbers)}"

    def entry(self, uri: str) -> Entry:
        """The line about the request for `uri`, once it is written."""
        found: list[Entry] = []

        def look() -> bool:
            found[:] = [entry for entry in self.entries() if entry["uri"] == uri]
            return bool(found)

        eventually(look, f"a line for {uri}", 5.0)
        assert len(found) == 1, found
        return found[0]

    def entries(self) -> list[Entry]:
        """The lines that are there; the gateway is told to write the rest soon, not in half a second."""
        self.gateway.process.send_signal(signal.SIGUSR1)
        return self.log.entries

    def ask(self, name: str, *fields: str, frontend: str = "web") -> tuple[Response, Entry]:
        """GET it over a connection of its own: the answer, and its line."""
        uri = self.uri(name)
        with self.client(frontend) as client:
            answer = client.get(uri, *fields)
            port = client.socket.getsockname()[1]
        entry = self.entry(uri)
        assert (entry["frontend"], entry["client_port"]) == (frontend, port)
        assert entry["status"] == answer.status
        assert entry["request_id"] == answer.header("X-Request-ID")
        return answer, entry

    def start(self, client: RawClient, name: str, *fields: str, method: str = "GET") -> str:
        """Send the head of a request: its target."""
        uri = self.uri(name)
        client.send("\r\n".join((f"{method} {uri} HTTP/1.1", "Host: a", *fields, "", "")).encode())
        return uri

    def arrives(self, uri: str) -> None:
        """Wait until the server has got the request."""
        eventually(lambda: any(f" {uri} ".encode() in head for head in self.server.heads), f"{uri} to arrive")

    def said_of(self, entry: Entry) -> list[str]:
        """The lines of the error log that name this request."""
        return [line for line in self.gateway.log.splitlines() if entry["request_id"] in line]

    def line_of(self, entry: Entry) -> str:
        """The one line of the error log that names this request. Raises AssertionError."""
        lines = self.said_of(entry)
        assert len(lines) == 1, lines
        return lines[0]

    def figures(self) -> Counter[tuple[str, ...]]:
        """What `gateway status --json` counts."""
        report = self.gateway.status()
        found: Counter[tuple[str, ...]] = Counter()
        for kind in ("frontend", "backend"):
            for item in report[f"{kind}s"]:
                at = (kind, item["name"])
                found.update({(*at, name): count for name, count in item["outcomes"].items()})
                found.update({(*at, "(retried)"): item["retried"], (*at, "(queued)"): item["waited"]})
        return +found


def of_lines(entries: list[Entry]) -> Counter[tuple[str, ...]]:
    """What the figures must be, by the access log."""
    found: Counter[tuple[str, ...]] = Counter()
    for entry in entries:
        for at in (("frontend", entry["frontend"]), ("backend", entry["backend"])):
            if at[1]:
                found[*at, entry["outcome"]] += 1
                found[*at, "(retried)"] += entry["tries"] > 1
                found[*at, "(queued)"] += entry["queue_ms"] > 0
    return +found


def backend(address: str, *, retries: int = 0, server: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """A backend of one server, without retries."""
    one = {"name": "s", "address": address, **(server or {})}
    return {"balance": "round-robin", "servers": [one], "retries": {"attempts": retries}, **keys}


def description(log: Log, server: RawServer, shut: ShutServer, authority: Authority) -> Site:
    """A site with a backend and a route for each fault."""
    refusing = f"127.0.0.1:{free_port()}"
    backends = {name: backend(server.address) for name in (*SCRIPTS, *HELD, "tls-only")}
    backends |= {
        "refused": backend(refusing),
        "no-socket": backend("unix:/no/such/socket"),
        "no-directory": backend("unix:/dev/null/socket"),
        "unreachable": backend("127.255.255.255:80"),  # connect(2) refuses broadcast addresses without sending anything
        "shut": backend(shut.address, timeouts={"connect": "200ms"}),
        "down": backend(refusing, check={"tcp": True, "interval": "100ms", "fall": 1}),
        "two": {
            "balance": "round-robin",
            "servers": [{"name": "bad", "address": refusing}, {"name": "good", "address": server.address}],
        },
        "none-of-two": {
            "balance": "round-robin",
            "servers": [{"name": "one", "address": refusing}, {"name": "two", "address": f"127.0.0.1:{free_port()}"}],
        },
    }
    backends["default-retries"].pop("retries")
    backends["once"].pop("retries")
    backends["busy"] |= backend(server.address, server={"max_connections": 1})
    backends["queue"] |= backend(server.address, server={"max_connections": 1}, queue={"limit": 1, "timeout": "500ms"})
    for name in SLOW:
        backends[name]["timeouts"] = {"response": "300ms"}
    backends["idle-tunnel"]["timeouts"] = {"tunnel": "200ms"}
    tls = {"certificates": [authority.issue("localhost").as_site()]}
    address = "127.0.0.1:{}"
    frontends: list[dict[str, Any]] = [
        {"name": "web", "limits": {"body_bytes": 1000}},
        {"name": "inner", "trusted_proxies": ["127.0.0.1/32"]},
        {"name": "secure", "tls": tls},
        {"name": "hasty", "limits": {"header_timeout": "200ms", "idle_timeout": "300ms"}},
    ]
    return {
        "user": "root",  # if the tests are: then they may limit what the worker may open
        "workers": 1,
        "access_log": log.section,
        "frontends": [{"listen": address.format(free_port()), **item} for item in frontends],
        "backends": backends,
        "routes": [
            {
                "match": {"path": "= /head"},
                "set_header": {"X-Trace": "id={request_id}"},
                "set_response_header": {"X-Trace": "id={request_id}"},
            },
            {"match": {"path": "= /respond"}, "respond": {"status": 200, "body": "mine"}},
            {"match": {"path": "= /redirect"}, "redirect": "/at/{request_id}"},
            *({"match": {"path": f"= /{name}"}, "backend": name} for name in backends),
        ],
    }


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Setup]:
    directory = tmp_path_factory.mktemp("outcomes")
    log = Log(directory)
    certificate = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    scripts = SCRIPTS | {"tls-only": speaks_tls(context)}

    def script(connection: socket.socket, head: bytes) -> None:
        name = head.split(b" ", 2)[1].split(b"?")[0].decode()[1:]
        if name in HELD:
            assert made.free.wait(10.0)
            connection.sendall(FINE)
        else:
            scripts.get(name, scripts["fine"])(connection, head)

    with RawServer(script) as server, ShutServer() as shut:
        gateway = GatewayProcess(directory, description(log, server, shut, authority))
        made = Setup(gateway, log, server)
        with gateway:
            gateway.wait_for_log("server down/s is DOWN")
            yield made


def hears_nothing(client: RawClient, seconds: float) -> None:
    """Hold the other side to saying nothing for so long."""
    assert select.select([client.socket], [], [], seconds)[0] == []


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold the figures to the log: outcomes, retried and queued requests of frontends and backends."""
    if "setup" not in request.fixturenames:
        yield
        return
    setup: Setup = request.getfixturevalue("setup")
    setup.free.clear()
    before, lines = setup.figures(), len(setup.log.entries)
    yield
    setup.free.set()
    seen: list[Any] = []

    def same() -> bool:
        seen[:] = setup.figures() - before, of_lines(setup.entries()[lines:])
        return bool(seen[0] == seen[1])

    try:
        eventually(same, "the figures to be those of the log", 5.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None


def shown(entry: Entry) -> dict[str, Any]:
    """How it ended."""
    return {key: entry[key] for key in ("outcome", "side", "status", "tries", "backend", "server")}


def ended(name: str, status: int, at: str = "", server: str = "", *, tries: int | None = None) -> dict[str, Any]:
    """How it must have ended: at a server of backend `at` with one try, unless said otherwise."""
    tries = int(bool(server)) if tries is None else tries
    shown = {"outcome": name, "side": SIDES[name], "status": status, "tries": tries, "backend": at, "server": server}
    assert name in SIDES
    return shown


# ---------------------------------------------------------------------------------------------------- a server's faults


def fault(name: str, outcome: str, status: int, why: str) -> Any:
    """A case of the test below."""
    return pytest.param(name, outcome, status, why, id=name)


INVALID = "the answer is not valid HTTP"
STATUS_LINE = f"{INVALID} (the status line is not valid)"
OTHER_RULE = f"{INVALID} (RULE)"  # some other one


@pytest.mark.parametrize("name, outcome, status, why", [
    fault("refused", "connect_refused", 502, "the server refused the connection (ECONNREFUSED)"),
    fault("no-socket", "connect_refused", 502, "the server refused the connection (ENOENT)"),
    fault("shut", "connect_timeout", 502, "the server did not accept within timeouts.connect"),
    fault("unreachable", "connect_unreachable", 502, "no route leads to the server (ENETUNREACH)"),
    fault("no-directory", "connect_failed", 502, "the connection could not be made for another reason (ENOTDIR)"),
    fault("closed", "server_closed", 502, "the server closed the connection before its answer"),
    fault("reset", "server_reset", 502, "the server reset the connection before its answer"),
    # OpenSSL sends no alert to what looks like plain HTTP; it ends the connection.
    fault("tls-only", "server_closed", 502, "the server closed the connection before its answer"),
    fault("alert", "response_invalid", 502, STATUS_LINE),
    fault("garbage", "response_invalid", 502, STATUS_LINE),
    fault("short-line", "response_invalid", 502, STATUS_LINE),
    fault("banner", "response_invalid", 502, STATUS_LINE),
    fault("unasked", "response_invalid", 502, OTHER_RULE),
    fault("interims", "response_invalid", 502, OTHER_RULE),
    fault("half-head", "response_invalid", 502, OTHER_RULE),
    fault("two-lengths", "response_invalid", 502, f"{INVALID} (there is more than one Content-Length)"),
    fault("bad-name", "response_invalid", 502, f"{INVALID} (a header name is not a token followed by a colon)"),
    fault("bad-line", "response_invalid", 502, f"{INVALID} (a line does not end with CRLF)"),
    fault("large-head", "response_too_large", 502, "the head of the answer is over 64 KiB"),
    fault("silent", "server_timeout", 504, "the server was silent for timeouts.response"),
])  # fmt: skip
def test_a_server_s_fault_has_a_name_and_a_line_that_says_why(
    setup: Setup, name: str, outcome: str, status: int, why: str
) -> None:
    _, entry = setup.ask(name)
    assert shown(entry) == ended(outcome, status, name, "s")
    assert entry["queue_ms"] == 0
    address = setup.gateway.site["backends"][name]["servers"][0]["address"]
    line = setup.line_of(entry)
    did = f"GET {entry['uri']}: answered with {status} [request {entry['request_id']}]"
    found = re.fullmatch(rf".*{name}/s \({address}\): {outcome}: (.*); {re.escape(did)}", line)
    assert found, line
    assert re.fullmatch(re.escape(why).replace("RULE", "(?!the status line).+"), found.group(1)), line


@pytest.mark.parametrize("name, body, why", [
    ("cut", b"abc", "the answer broke off after its head (after 3 of 1000 bytes)"),
    ("cut-chunks", b"3\r\nabc\r\n", "the answer broke off after its head (after 3 bytes)"),
])  # fmt: skip
def test_an_answer_that_breaks_off_is_no_200_like_others(setup: Setup, name: str, body: bytes, why: str) -> None:
    uri = setup.uri(name)
    with setup.client() as client:
        client.send(f"GET {uri} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head, _, rest = client.read().partition(b"\r\n\r\n")
    entry = setup.entry(uri)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"X-Request-ID: {entry['request_id']}".encode() in head
    assert rest == body
    assert shown(entry) == ended("response_cut", 200, name, "s")
    assert entry["bytes"] == 3
    line = setup.line_of(entry)
    assert f"response_cut: {why}; GET {uri}: the response is truncated [request {entry['request_id']}]" in line


def test_an_answer_that_is_invalid_within_its_body(setup: Setup) -> None:
    with setup.client() as client:
        uri = setup.start(client, "bad-chunk")
        assert client.read().endswith(b"\r\n\r\n3\r\nabc\r\n")
    entry = setup.entry(uri)
    assert shown(entry) == ended("response_invalid", 200, "bad-chunk", "s")
    line = setup.line_of(entry)
    assert f"response_invalid: {INVALID} (the chunked body is malformed); GET {uri}: the response is truncated" in line


def test_a_kept_connection_that_closes_under_a_request_that_may_be_repeated_is_a_retry(setup: Setup) -> None:
    first, second = setup.uri("once"), setup.uri("once")
    with setup.client() as client:
        assert [client.get(uri).status for uri in (first, second)] == [200, 200]
    assert shown(setup.entry(first)) == ended("ok", 200, "once", "s")
    entry = setup.entry(second)
    assert shown(entry) == ended("retried", 200, "once", "s", tries=2)
    assert setup.said_of(entry) == []  # no fault: it had idled too long


def test_a_kept_connection_that_closes_under_a_request_that_may_not_be_repeated(setup: Setup) -> None:
    first, second = setup.uri("once"), setup.uri("once")
    with setup.client() as client:
        assert client.get(first).status == 200
        assert client.ask(f"POST {second} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".encode()).status == 502
    entry = setup.entry(second)
    assert shown(entry) == ended("stale_connection", 502, "once", "s")
    line = setup.line_of(entry)
    assert re.search(rf"once/s \(.*\): stale_connection: .*; POST {re.escape(second)}: answered with 502 ", line)


def test_another_server_answers_after_a_failed_try(setup: Setup) -> None:
    # In turn: the first or the second of them comes to the bad one.
    retried = next(entry for entry in (setup.ask("two")[1] for _ in range(2)) if entry["tries"] > 1)
    assert shown(retried) == ended("retried", 200, "two", "good", tries=2)
    line = setup.line_of(retried)
    assert "two/bad " in line
    assert (
        f": connect_refused: the server refused the connection (ECONNREFUSED); GET {retried['uri']}: trying another"
        in line
    )


def test_no_server_answers_after_all_were_tried(setup: Setup) -> None:
    _, entry = setup.ask("none-of-two")
    assert shown(entry) == ended("connect_refused", 502, "none-of-two", entry["server"], tries=2)
    first, second = setup.said_of(entry)
    assert first.partition("]: ")[0] != second
    assert {re.findall("none-of-two/(one|two) ", line)[0] for line in (first, second)} == {"one", "two"}
    assert "trying another server" in first
    assert f"none-of-two/{entry['server']} " in second
    assert "answered with 502" in second


def test_the_only_server_fails_although_retries_are_allowed(setup: Setup) -> None:
    _, entry = setup.ask("default-retries")
    assert shown(entry) == ended("server_closed", 502, "default-retries", "s")
    line = setup.line_of(entry)
    assert "trying another server" not in line
    assert "answered with 502" in line


def test_a_server_that_fails_often_is_named_once_in_ten_seconds(setup: Setup) -> None:
    def lines() -> list[str]:
        return [line for line in setup.gateway.log.splitlines() if " many/s " in line]

    begun = time.monotonic()
    with setup.client() as client:
        assert [client.get("/many").status for _ in range(50)] == [502] * 50
    taken = time.monotonic() - begun
    (line,) = lines()
    assert ": server_closed: " in line
    assert "more" not in line
    time.sleep(LOG_PERIOD - taken + 0.2)  # it is this time that is tested
    _, entry = setup.ask("many")
    (_, line) = lines()
    assert line.endswith(f"answered with 502 (49 similar ones since) [request {entry['request_id']}]")


def test_each_way_to_fail_has_a_line_of_its_own(setup: Setup) -> None:
    for mood in ("closed", "reset", "closed", "reset"):
        assert setup.ask(f"moody?{mood}")[1]["outcome"] == f"server_{mood}"
    lines = [line for line in setup.gateway.log.splitlines() if " moody/s " in line]
    assert [re.findall(r": (server_\w+): ", line) for line in lines] == [["server_closed"], ["server_reset"]]


# --------------------------------------------------------------------------------------- no room, and the gateway's own


@pytest.fixture
def exhausted(setup: Setup) -> tuple[int, Entry]:
    """A request while the worker may open nothing more: the status of its answer, and its line."""
    pid = setup.gateway.workers()[0]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    uri = setup.uri("fine")
    with setup.client() as client:
        assert client.get("/respond").status == 200
        held = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        free = next(number for number in itertools.count() if number not in held)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            status = client.get(uri).status
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    return status, setup.entry(uri)


def test_no_descriptor_is_left_for_a_connection_to_a_server(setup: Setup, exhausted: tuple[int, Entry]) -> None:
    status, entry = exhausted
    assert status == 503
    assert shown(entry) == ended("no_descriptor", 503, "fine", "s")
    line = setup.line_of(entry)
    assert "no_descriptor: the gateway has no descriptor or port left to connect" in line
    assert f"; GET {entry['uri']}: answered with 503 " in line


def test_the_kernel_s_error_is_in_the_line_about_it(setup: Setup, exhausted: tuple[int, Entry]) -> None:
    # Whichever of the two tests came first has the line.
    (line, *_) = [line for line in setup.gateway.log.splitlines() if ": no_descriptor: " in line]
    assert exhausted
    assert "(EMFILE)" in line


def test_no_server_is_up(setup: Setup) -> None:
    _, entry = setup.ask("down")
    assert shown(entry) == ended("no_server", 503, "down")


def test_every_server_is_at_its_limit_and_there_is_no_queue(setup: Setup) -> None:
    with setup.client() as busy:
        held = setup.start(busy, "busy")
        setup.arrives(held)
        _, entry = setup.ask("busy")
        assert shown(entry) == ended("no_server", 503, "busy")
        setup.free.set()
        assert busy.response().status == 200
    assert shown(setup.entry(held)) == ended("ok", 200, "busy", "s")


def test_the_queue_is_full_and_the_wait_in_it_too_long(setup: Setup) -> None:
    with setup.client() as busy, setup.client() as waiting:
        setup.arrives(setup.start(busy, "queue"))
        late = setup.start(waiting, "queue")
        _, entry = setup.ask("queue")
        assert shown(entry) == ended("queue_full", 503, "queue")
        assert entry["queue_ms"] == 0
        assert waiting.response().status == 503
        setup.free.set()
        assert busy.response().status == 200
    entry = setup.entry(late)
    assert shown(entry) == ended("queue_timeout", 503, "queue")
    assert 490 <= entry["queue_ms"] <= entry["duration_ms"]


def test_the_time_in_the_queue_is_logged_for_an_answered_request(setup: Setup) -> None:
    with setup.client() as busy, setup.client() as waiting:
        setup.arrives(setup.start(busy, "queue"))
        late = setup.start(waiting, "queue")
        begun = time.monotonic()
        hears_nothing(waiting, 0.1)
        setup.free.set()
        waited = time.monotonic() - begun
        assert (busy.response().status, waiting.response().status) == (200, 200)
    entry = setup.entry(late)
    assert shown(entry) == ended("ok", 200, "queue", "s")
    assert 90 <= entry["queue_ms"] <= (waited + 1.0) * 1000


@pytest.mark.parametrize("name, outcome", [("down", "no_server"), ("busy", "no_server"), ("queue", "queue_full"),
                                           ("queue", "queue_timeout")])  # fmt: skip
def test_a_503_without_a_server_has_a_line_that_says_why(setup: Setup, name: str, outcome: str) -> None:
    with setup.client() as busy, setup.client() as waiting:
        if name != "down":
            setup.arrives(setup.start(busy, name))
        uri = setup.start(waiting, name)
        if outcome == "queue_full":
            setup.ask(name)
        assert waiting.response().status == 503
    setup.entry(uri)
    # The line in ten seconds may be about a request of a test before.
    told = re.search(
        rf" {name}: {outcome}: [^\n]*; GET /{name}\S*: answered with 503 \[request (\w+)\]$",
        setup.gateway.log,
        re.MULTILINE,
    )
    assert told is not None
    ended_so = {
        entry["request_id"] for entry in setup.log.entries if (entry["backend"], entry["outcome"]) == (name, outcome)
    }
    assert told.group(1) in ended_so


# ----------------------------------------------------------------------------------- the gateway's answers and refusals


@pytest.mark.parametrize("name, status", [("respond", 200), ("redirect", 302)])
def test_a_route_answers(setup: Setup, name: str, status: int) -> None:
    _, entry = setup.ask(name)
    assert shown(entry) == ended("answered", status)
    assert setup.said_of(entry) == []


def test_no_route_is_for_it(setup: Setup) -> None:
    _, entry = setup.ask("nowhere")
    assert shown(entry) == ended("no_route", 404)
    assert setup.said_of(entry) == []


@pytest.mark.parametrize("data, status, why", [
    (b"GET / HTTP/1.1\r\n\r\n", 400, "the Host header is missing"),
    (b"GET /\r\n\r\n", 400, "the request line does not end with an HTTP version"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", 400, "a header name is not a token followed by a colon"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413, "the body is larger than allowed"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "there are too many headers"),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
])  # fmt: skip
def test_malformed_requests_are_refused(setup: Setup, data: bytes, status: int, why: str) -> None:
    before = len(setup.log.entries)
    with setup.client() as client:
        answer = client.ask(data)
    assert answer.status == status
    assert why in answer.body.decode()
    eventually(lambda: len(setup.entries()) > before, "the line")
    (entry,) = setup.log.entries[before:]
    assert shown(entry) == ended("refused", status)
    assert (entry["uri"], entry["host"], entry["user_agent"], entry["frontend"]) == ("", "", "", "web")
    assert answer.header("X-Request-ID") == entry["request_id"]
    assert setup.said_of(entry) == []


def test_a_request_is_refused_for_its_path(setup: Setup) -> None:
    answer, entry = setup.ask("%zz")
    assert "the path is encoded in a way that hides what it names" in answer.body.decode()
    assert shown(entry) == ended("refused", 400)


@pytest.mark.parametrize("chunks, status, why", [
    (b"3\r\nabc\r\nx\r\n", 400, "the chunked body is malformed"),
    (b"3e9\r\n%s\r\n" % bytes(1001), 413, "the body is larger than allowed"),
])  # fmt: skip
def test_a_body_is_refused(setup: Setup, chunks: bytes, status: int, why: str) -> None:
    with setup.client() as client:
        uri = setup.start(client, "held", "Transfer-Encoding: chunked", method="POST")
        client.send(chunks)
        answer = client.response()
    assert answer.status == status
    assert why in answer.body.decode()
    entry = setup.entry(uri)
    assert shown(entry) == ended("refused", status, "held", "s")
    assert answer.header("X-Request-ID") == entry["request_id"]


# ---------------------------------------------------------------------------------------------------- a client's faults


def test_the_client_leaves_while_it_is_queued(setup: Setup) -> None:
    with setup.client() as busy, setup.client() as waiting:
        setup.arrives(setup.start(busy, "queue"))
        uri = setup.start(waiting, "queue")
        hears_nothing(waiting, 0.05)
        waiting.reset()
        entry = setup.entry(uri)
        setup.free.set()
        assert busy.response().status == 200
    assert shown(entry) == ended("client_left", 499, "queue")
    assert entry["queue_ms"] >= 40
    assert setup.said_of(entry) == []


def test_the_client_leaves_while_the_server_works(setup: Setup) -> None:
    with setup.client() as client:
        uri = setup.start(client, "held")
        setup.arrives(uri)
        client.reset()
    entry = setup.entry(uri)
    assert shown(entry) == ended("client_left", 499, "held", "s")
    assert setup.said_of(entry) == []


def test_the_client_leaves_within_its_answer(setup: Setup) -> None:
    with setup.client() as client:
        uri = setup.start(client, "much")
        client.read(bytes(1 << 16))
        client.reset()
    entry = setup.entry(uri)
    assert shown(entry) == ended("client_left", 200, "much", "s")
    assert 1 << 16 <= entry["bytes"] < LARGE
    assert setup.said_of(entry) == []


def test_the_client_leaves_within_its_body(setup: Setup) -> None:
    with setup.client() as client:
        uri = setup.start(client, "held", "Content-Length: 10", method="POST")
        client.send(b"abc")
        setup.arrives(uri)
        client.end()
        entry = setup.entry(uri)
    assert shown(entry) == ended("client_left", 499, "held", "s")
    assert entry["request_bytes"] == 3
    assert setup.said_of(entry) == []


def test_the_client_is_too_slow_to_send_a_head(setup: Setup) -> None:
    before = len(setup.log.entries)
    with setup.client("hasty") as client:
        answer = client.ask(b"GET /slow HTTP/1.1\r\n")
    assert answer.status == 408
    eventually(lambda: len(setup.entries()) > before, "the line")
    (entry,) = setup.log.entries[before:]
    assert shown(entry) == ended("client_timeout", 408)
    assert (entry["frontend"], entry["request_id"]) == ("hasty", answer.header("X-Request-ID"))


def test_the_client_is_too_slow_to_send_its_body(setup: Setup) -> None:
    with setup.client("hasty") as client:
        uri = setup.start(client, "held", "Content-Length: 10", method="POST")
        client.send(b"abc")
        assert client.response().status == 408
    entry = setup.entry(uri)
    assert shown(entry) == ended("client_timeout", 408, "held", "s")
    assert (entry["frontend"], entry["request_bytes"]) == ("hasty", 3)
    assert setup.said_of(entry) == []


def test_the_client_is_too_slow_to_read(setup: Setup) -> None:
    with setup.client("hasty") as client:
        uri = setup.start(client, "much")
        entry = setup.entry(uri)
    assert shown(entry) == ended("client_timeout", 200, "much", "s")
    assert entry["bytes"] < LARGE
    assert setup.said_of(entry) == []


# -------------------------------------------------------------------------------------------------------------- tunnels


@contextlib.contextmanager
def tunnel(setup: Setup, name: str) -> Iterator[tuple[RawClient, str]]:
    """A tunnel to a server that echoes, and what was asked for."""
    with setup.client() as client:
        uri = setup.start(client, name, "Connection: upgrade", "Upgrade: echo")
        assert client.read(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        yield client, uri


def test_a_tunnel_ends_in_order(setup: Setup) -> None:
    with tunnel(setup, "tunnel") as (client, uri):
        client.send(b"hello")
        assert client.read(b"hello") == b"hello"
        client.end()
        assert client.is_closed()
    entry = setup.entry(uri)
    assert shown(entry) == ended("ok", 101, "tunnel", "s")
    assert (entry["request_bytes"], entry["bytes"]) == (5, 5)


def test_a_tunnel_is_idle(setup: Setup) -> None:
    with tunnel(setup, "idle-tunnel") as (client, uri):
        assert client.is_closed()
    assert shown(setup.entry(uri)) == ended("tunnel_idle", 101, "idle-tunnel", "s")


def test_the_client_cuts_a_tunnel(setup: Setup) -> None:
    with tunnel(setup, "tunnel") as (client, uri):
        client.send(b"hello")
        assert client.read(b"hello") == b"hello"
        client.reset()
    entry = setup.entry(uri)
    assert shown(entry) == ended("tunnel_cut_by_client", 101, "tunnel", "s")
    assert setup.said_of(entry) == []


def test_the_server_cuts_a_tunnel(setup: Setup) -> None:
    with tunnel(setup, "reset-tunnel") as (client, uri):
        client.send(b"hello")
        assert client.is_closed()
    assert shown(setup.entry(uri)) == ended("tunnel_cut_by_server", 101, "reset-tunnel", "s")


# ------------------------------------------------------------------------------------------ other fields, other figures


def test_a_request_over_tls(setup: Setup, authority: Authority) -> None:
    uri = setup.uri("fine")
    with RawClient(setup.port("secure"), authority.client_context()) as client:
        answer = client.get(uri)
        assert isinstance(client.socket, ssl.SSLSocket)
        cipher = client.socket.cipher()
        version = client.socket.version()
        port = client.socket.getsockname()[1]
    assert cipher is not None
    entry = setup.entry(uri)
    assert shown(entry) == ended("ok", 200, "fine", "s")
    assert (entry["frontend"], entry["client_port"], entry["scheme"]) == ("secure", port, "https")
    assert (entry["tls_version"], entry["tls_cipher"]) == (version, cipher[0])
    assert entry["request_id"] == answer.header("X-Request-ID")


def test_a_request_without_tls(setup: Setup) -> None:
    _, entry = setup.ask("fine")
    assert shown(entry) == ended("ok", 200, "fine", "s")
    assert (entry["scheme"], entry["tls_version"], entry["tls_cipher"]) == ("http", "", "")


def test_metrics_have_the_side_of_each_outcome(setup: Setup) -> None:
    for name in ("fine", "refused", "nowhere", "down", "two", "two"):
        setup.ask(name)
    text = CliRunner().invoke(main, ["status", str(setup.gateway.path), "--metrics"]).stdout
    sample = re.compile(
        r'^gateway_(frontend|backend)_outcomes_total\{\1="([^"]+)",outcome="([^"]+)",side="([^"]+)"\} (\d+)',
        re.MULTILINE,
    )
    found = {tuple(labels): int(count) for *labels, count in sample.findall(text)}
    expected: Counter[tuple[str, ...]] = Counter()
    retried: Counter[str] = Counter()
    for entry in setup.log.entries:
        for kind in ("frontend", "backend"):
            if entry[kind]:
                expected[kind, entry[kind], entry["outcome"], entry["side"] or "-"] += 1
        retried[entry["frontend"]] += entry["tries"] > 1
    assert found == expected
    assert f'gateway_frontend_retried_requests_total{{frontend="web"}} {retried["web"]}\n' in text
    assert retried["web"] > 0


@pytest.fixture
def cut_off(start_gateway: Starter, tmp_path: Path) -> tuple[bytes, Entry]:
    """A request that the end of the drain cut off: what its client got, and its line."""
    log = Log(tmp_path)
    with RawServer(replies(keep=True)) as server:
        gateway = start_gateway({
            "workers": 1, "drain": "200ms", "access_log": log.section,
            "frontends": [{"name": "web", "listen": f"127.0.0.1:{free_port()}"}],
            "backends": {"app": backend(server.address)},
        })  # fmt: skip
        with RawClient(gateway.port) as client:
            client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: bool(server.heads), "the request to arrive")
            assert gateway.terminate() == 0
            heard = client.read()
    (entry,) = log.entries
    return heard, entry


def test_a_stop_cuts_a_request_off(cut_off: tuple[bytes, Entry]) -> None:
    _, entry = cut_off
    assert shown(entry) | {"status": 0} == ended("stopped", 0, "app", "s")


def test_the_log_has_no_status_that_a_client_did_not_get(cut_off: tuple[bytes, Entry]) -> None:
    heard, entry = cut_off
    assert entry["status"] == (int(heard.split()[1]) if heard else 0)


# ---------------------------------------------------------------------------------------------------------- request ids


def ids_of(answer: Response, name: str = "x-request-id") -> list[str]:
    """The values of all X-Request-ID fields of an answer from "head", in the head that the server got."""
    lines = [line.partition(":") for line in answer.body.decode().split("\r\n")]
    return [value.strip() for field, _, value in lines if field.lower() == name]


def test_an_id_is_made_for_each_request(setup: Setup) -> None:
    uris = [setup.uri("head") for _ in range(3)]
    with setup.client() as client:
        answers = [client.get(uri) for uri in uris]
    ids = [setup.entry(uri)["request_id"] for uri in uris]
    assert len(set(ids)) == 3
    for made, answer in zip(ids, answers, strict=True):
        assert ID.fullmatch(made)
        assert ids_of(answer) == [made]
        assert answer.header("X-Request-ID") == made  # and not the server's own
        assert ids_of(answer, "x-trace") == [f"id={made}"]
        assert answer.header("X-Trace") == f"id={made}"


@pytest.mark.parametrize("fields, taken", [
    (["X-Request-ID: of/proxy-7"], "of/proxy-7"),
    ([PARENT], TRACE_ID),
    ([PARENT, "X-Request-ID: of/proxy-7"], "of/proxy-7"),
    (["X-Request-ID: two words"], None),
])  # fmt: skip
def test_a_trusted_peer_chooses_the_id(setup: Setup, fields: list[str], taken: str | None) -> None:
    answer, entry = setup.ask("head", *fields, frontend="inner")
    assert ids_of(answer) == [entry["request_id"]]
    assert ids_of(answer, "traceparent") == [PARENT.partition(": ")[2]] * (PARENT in fields)
    assert answer.header("X-Trace") == f"id={entry['request_id']}"
    if taken is None:
        assert ID.fullmatch(entry["request_id"])
    else:
        assert entry["request_id"] == taken


@pytest.mark.parametrize("fields", [["X-Request-ID: mine"], [PARENT], ["x-request-id: mine", PARENT]])
def test_an_untrusted_client_gets_a_new_id(setup: Setup, fields: list[str]) -> None:
    answer, entry = setup.ask("head", *fields)
    assert ID.fullmatch(entry["request_id"])
    assert entry["request_id"] != TRACE_ID
    assert ids_of(answer) == [entry["request_id"]]
    assert ids_of(answer, "traceparent") == [PARENT.partition(": ")[2]] * (PARENT in fields)


@pytest.mark.parametrize("name, status", [("nowhere", 404), ("closed", 502), ("down", 503), ("respond", 200)])
def test_the_gateway_s_own_answers_have_the_id(setup: Setup, name: str, status: int) -> None:
    answer, entry = setup.ask(name, "X-Request-ID: of/proxy-8", frontend="inner")
    assert answer.status == status
    assert entry["request_id"] == "of/proxy-8"  # setup.ask compares it with the answer's


def test_a_redirect_may_have_the_id_in_it(setup: Setup) -> None:
    answer, entry = setup.ask("redirect")
    location = answer.header("Location")
    assert location is not None
    assert location.endswith(f"/at/{entry['request_id']}")


def test_a_tunnel_has_an_id(setup: Setup) -> None:
    with setup.client() as client:
        uri = setup.start(client, "tunnel", "Connection: upgrade", "Upgrade: echo")
        head = client.read(b"\r\n\r\n").decode()
    assert f"\r\nX-Request-ID: {setup.entry(uri)['request_id']}\r\n" in head


def test_log_lines_by_a_template(start_gateway: Starter, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    form = (
        "{request_id}|{outcome}|{side}|{tries}|{frontend}|{client_port}|{tls_version}|{header:X-Tenant}|{header:Last}"
    )
    with RawServer(fails_as(FINE)) as server:
        gateway = start_gateway({
            "workers": 1, "access_log": {"path": str(path), "format": form},
            "frontends": [{"name": "web", "listen": f"127.0.0.1:{free_port()}"}],
            "backends": {"app": backend(server.address)},
        })  # fmt: skip
        with RawClient(gateway.port) as client:
            port = client.socket.getsockname()[1]
            answers = [
                client.get("/", "x-tenant:  first \t", "X-Tenant: second", "Last: l"),
                client.get("/", "X-Tenants: a", "Tenant: b", "X-Tenant:"),
                client.get("/", 'X-Tenant: a"b\\c\td'),
                client.ask(b"X-Tenant: no request\r\n\r\n"),
            ]
        eventually(lambda: path.exists() and path.read_bytes().count(b"\n") == 4, "four lines")
    ids = [answer.header("X-Request-ID") for answer in answers]
    assert path.read_text().splitlines() == [
        f"{ids[0]}|ok||1|web|{port}||first|l",
        f"{ids[1]}|ok||1|web|{port}|||",
        f'{ids[2]}|ok||1|web|{port}||a\\"b\\\\c\\u0009d|',
        f"{ids[3]}|refused|client|0|web|{port}|||",
    ]


# --------------------------------------------------------------------------------------------------------- what is said


def test_the_handbook_has_every_outcome() -> None:
    section = DOCUMENT.read_text().partition("\n## How requests end\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    assert [(name.strip("`"), side) for name, side, *_ in rows] == [
        (name, side) for name, side, _ in OUTCOMES if name != "none"
    ]
    statuses = {name: status for _, name, _, status, _ in vars(outcome)["TABLE"]}
    for name, _, status, meaning, advice in rows:
        passed_on = {"`response_cut`": "the"} | dict.fromkeys(
            ("`tunnel_idle`", "`tunnel_cut_by_client`", "`tunnel_cut_by_server`"), "101"
        )
        expected = passed_on.get(name, str(statuses[name.strip("`")]))
        assert status[:3] == expected
        assert meaning
        assert advice

"""Every malformed request of the suite behind a good one, on every kind of listener.

ANSWERED, and then closed: all of them. The good request gets its own answer; the malformed one is answered with its
status and `Connection: close`; the connection is closed after it.

CLOSED, and not answered: only a body that turns out to be malformed when the server has begun to answer. A second
answer could be taken for a part of the first, so the connection breaks off.

No server gets a byte of a malformed head. Where only the chunked body behind a good head is malformed, that head may be
at a server already; the server never gets the end of such a request.
"""

import itertools
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.conformance.cases import CASES, P
from tests.conformance.observe import Answer, split
from tests.conformance.recorder import HELD, PROBE, Holding, Reply
from tests.scenarios.test_bad_requests import BAD, BAD_BODIES
from tests.support.certificates import Authority
from tests.support.conversation import Conversation
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import LIMIT
from tests.support.waiting import eventually

FIRST = b"/first/"
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n"
GOOD_HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are answered with `status`; `begun`: their head is good, and only the body behind it is not."""

    name: str
    data: bytes
    status: int
    begun: bool = False

    def __str__(self) -> str:
        return self.name


def malformed() -> list[Malformed]:
    """Return all that the suite has, each once."""
    found = [
        Malformed(str(case), case.data, case.statuses[0], begun=case.family == 8)
        for case in CASES
        # Refused for what they are, not for how long they take or for how they are answered.
        if case.closes and case.arrived == () and case.reply is None and case.statuses != (408,)
    ]
    found += [Malformed(repr(data[:60]), data, status) for data, status in BAD]
    found += [Malformed(f"body {body[:24]!r}", GOOD_HEAD + body, 400, begun=True) for body in BAD_BODIES]
    return list({one.data: one for one in reversed(found)}.values())[::-1]


MALFORMED = malformed()


class Beside(GatewayProcess):
    """A gateway with one more frontend: `extra`, which the harness cannot call."""

    def __init__(self, directory: Path, description: Site, extra: Site) -> None:
        self._extra = extra
        super().__init__(directory, description)

    def write(self, description: Site | str) -> None:
        """Write the site file with the other frontend."""
        assert not isinstance(description, str)
        super().write({**description, "frontends": [*description["frontends"], self._extra]})
        self.site = description


class Setup:
    """A gateway with one worker and one kind of listener, its server, and a client that stays connected throughout."""

    def __init__(self, gateway: GatewayProcess, recorder: Holding, connect: Callable[[], socket.socket]) -> None:
        self.gateway = gateway
        self.recorder = recorder
        self._connect = connect
        self._numbers = itertools.count()
        self.bystander = self.client()

    def client(self) -> Conversation:
        """Return a new connection, past its PROXY header or handshake."""
        return Conversation(self._connect())

    def target(self, kind: bytes) -> bytes:
        """Return a target that no other request has."""
        return kind + b"%d" % next(self._numbers)

    def ask_beside(self) -> None:
        """Let the bystander ask and get its answer. Raises AssertionError.

        The worker has then been around: what was sent to it before has been looked at, for its server's answer came
        in a later round than the question.
        """
        target = self.target(PROBE)
        self.bystander.data.clear()
        try:
            self.bystander.send(get(target))
            self.bystander.wait(lambda: answers(self.bystander) == [(200, b"GET " + target)], "the bystander's answer")
        except AssertionError:
            self.bystander.close()
            self.bystander = self.client()  # the next case has nothing to do with this one
            raise

    def whole(self) -> list[bytes]:
        """The targets of all requests that the server got to their end, those of bystanders left out."""
        return [arrival.target for arrival in self.recorder.requests() if arrival.whole]

    def begun(self) -> int:
        """How much came to the server that is no finished request, pieces of heads included."""
        return sum(not arrival.whole for arrival in self.recorder.requests())


def get(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def said(client: Conversation) -> list[Answer]:
    """The answers that have come in full."""
    return [answer for answer in split(bytes(client.data), (), ended=False) if answer.whole]


def answers(client: Conversation) -> list[tuple[int, bytes]]:
    """The statuses and bodies of what has come in full."""
    return [(answer.status, answer.body) for answer in said(client)]


def refuses_unix(directory: Path, description: Site, extra: Site) -> str | None:
    """What `gateway check` has against a listener at a path; None if it takes it."""
    file = directory / "unix.yaml"
    file.write_text(yaml.safe_dump({**description, "frontends": [*description["frontends"], extra]}))
    done = CliRunner().invoke(main, ["check", str(file)])
    return None if done.exit_code == 0 else done.output


@pytest.fixture(scope="module", params=["plain", "tls", "proxy", "unix"])
def setup(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Setup]:
    """One gateway for each kind of listener."""
    kind = request.param
    directory = tmp_path_factory.mktemp(f"behind-{kind}")
    description: dict[str, Any] = site([])
    frontend = description["frontends"][0]
    context = authority.client_context()
    path = str(directory / "s")
    extra = {"name": "unix", "listen": f"unix:{path}"}

    def connect() -> socket.socket:
        if kind == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            return client
        client = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT)
        if kind == "proxy":
            client.sendall(PROXY)
        return context.wrap_socket(client, server_hostname="localhost") if kind == "tls" else client

    if kind == "tls":
        frontend["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    if kind == "proxy":
        frontend |= {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1/32"]}
    with Holding() as recorder:
        description["backends"] = {"app": {"servers": [recorder.address]}}
        if kind == "unix" and (why := refuses_unix(directory, description, extra)):
            assert refuses_unix(directory, description, {"listen": "127.0.0.1:1"}) is None  # nothing else is wrong
            pytest.skip(f"this configuration has no listeners at Unix sockets: {why.strip()}")
        unix = kind == "unix"
        with Beside(directory, description, extra) if unix else GatewayProcess(directory, description) as gateway:
            setup = Setup(gateway, recorder, connect)
            yield setup
            setup.bystander.close()


def check_refusal(client: Conversation, first: bytes, bad: Malformed) -> None:
    """Wait for the refusal behind the answer to `first`, and for the end."""
    client.wait(lambda: client.closed, "the connection to be closed")
    good, refusal = said(client)
    assert (good.status, good.body) == (200, b"GET " + first)
    assert b"\r\nConnection: close" not in good.head
    assert refusal.status == bad.status
    assert refusal.head.count(b"\r\nConnection: close") == 1
    assert bytes(client.data).endswith(refusal.head + b"\r\n\r\n" + refusal.body)  # and nothing more


@pytest.fixture(autouse=True)
def nothing_else_suffers(request: pytest.FixtureRequest, setup: Setup) -> Iterator[None]:
    """Whatever a case does: no process dies, no server gets a malformed request, and the bystander is served."""
    workers, control, since = setup.gateway.workers(), setup.gateway.control(), len(setup.gateway.log)
    finished, begun = len(setup.whole()), setup.begun()
    yield
    setup.ask_beside()
    assert (setup.gateway.workers(), setup.gateway.control()) == (workers, control), setup.gateway.log[since:]
    assert "was killed" not in setup.gateway.log[since:]
    got = setup.whole()[finished:]
    assert all(target.startswith((FIRST, HELD)) for target in got), got
    case = getattr(request.node, "callspec", None)
    bad = case.params.get("bad") if case else None
    if bad is not None:
        assert len(got) == 1
        assert bad.begun or setup.begun() == begun, setup.recorder.arrivals[-3:]


@pytest.mark.parametrize("bad", MALFORMED, ids=str)
def test_in_the_same_packet(setup: Setup, bad: Malformed) -> None:
    first = setup.target(FIRST)
    with setup.client() as client:
        client.send(get(first) + bad.data)
        check_refusal(client, first, bad)


@pytest.mark.parametrize("bad", MALFORMED, ids=str)
def test_after_the_answer(setup: Setup, bad: Malformed) -> None:
    first = setup.target(FIRST)
    with setup.client() as client:
        client.send(get(first))
        client.wait(lambda: answers(client) == [(200, b"GET " + first)], "the first answer")
        client.send(bad.data)
        check_refusal(client, first, bad)


@pytest.mark.parametrize("bad", MALFORMED, ids=str)
def test_while_the_first_is_at_the_server(setup: Setup, bad: Malformed) -> None:
    first = setup.target(HELD)
    setup.recorder.let_go.clear()
    try:
        with setup.client() as client:
            before = len(setup.recorder.requests())
            client.send(get(first))
            eventually(lambda: len(setup.recorder.requests()) > before, "the first to arrive")
            client.send(bad.data)
            setup.ask_beside()
            assert client.hears_nothing()
            assert [arrival.target for arrival in setup.recorder.requests()[before:]] == [first]
            setup.recorder.let_go.set()
            check_refusal(client, first, bad)
    finally:
        setup.recorder.let_go.set()


def test_a_body_that_turns_out_to_be_malformed_when_the_answer_has_begun(setup: Setup) -> None:
    first = setup.target(FIRST)
    setup.recorder.reply = None
    with setup.client() as client:
        client.send(get(first))
        client.wait(lambda: answers(client) == [(200, b"GET " + first)], "the first answer")
        heard = len(client.data)
        setup.recorder.reply = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun", early=True)
        try:
            client.send(P + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            client.wait(lambda: client.data.endswith(b"begun"), "the answer to begin")
            client.send(b"-1\r\n")
            client.wait(lambda: client.closed, "the connection to be closed")
        finally:
            setup.recorder.reply = None
        assert client.data[heard:].count(b"HTTP/1.1 ") == 1
        assert client.data.endswith(b"begun")


def test_of_all_that_was_sent_the_server_finished_good_requests_only(setup: Setup) -> None:
    """The last of each listener: what came late is found here."""
    setup.ask_beside()
    got = setup.whole()
    assert all(target.startswith((FIRST, HELD)) for target in got)
    assert len(got) == len(set(got))
    assert "ERROR" not in setup.gateway.log
    assert "Traceback" not in setup.gateway.log
    assert "was killed" not in setup.gateway.log

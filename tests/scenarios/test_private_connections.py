"""Servers that authenticate connections (NTLM, Negotiate): what one client has authenticated is no other's."""

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import Acceptor, read_head
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]


class Guarded(Acceptor):
    """Answers with the name of the client that has authenticated the connection, after a challenge and a response.

    schemes: challenges that it sends to those who have not. shy: it never sends one, but takes credentials.
    """

    def __init__(self, *schemes: str, shy: bool = False, name: str = "guarded") -> None:
        super().__init__()
        self.name = name
        self._fields = "".join(f"WWW-Authenticate: {scheme}\r\n" for scheme in schemes)
        self._shy = shy
        self.open = 0

    def serve(self, connection: socket.socket, number: int) -> None:
        """Answer every request on the connection; `open` counts those that are."""
        self.open += 1
        user = ""
        try:
            while head := read_head(connection).decode("latin-1"):
                said = re.search(r"\r\nAuthorization: \S+ (\S+)", head)
                if said and said[1].startswith("response-"):
                    user = said[1].removeprefix("response-")
                challenge = (
                    self._fields
                    if not said
                    else f"WWW-Authenticate: {head.split('Authorization: ')[1].split()[0]} c2\r\n"
                )
                if user or self._shy:
                    status, fields, body = "200 OK", "", f"{self.name} {number} {user or 'nobody'}"
                else:
                    status, fields, body = "401 Unauthorized", challenge, ""
                answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n{body}"
                connection.sendall(answer.encode())
        finally:
            self.open -= 1


def before(*servers: Guarded, **backend: Any) -> dict[str, Any]:
    return {**site(servers, **backend), "routes": [{"backend": "app"}]}


def log_in(client: RawClient, scheme: str, user: str) -> bytes:
    """The three legs of a handshake; the body of the last answer."""
    assert client.get("/").status == 401
    assert client.get("/", f"Authorization: {scheme} hello").status == 401
    answer = client.get("/", f"Authorization: {scheme} response-{user}")
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize("schemes", [
    ("NTLM",), ("Negotiate",), ("negotiate", "ntlm"), ('Basic realm="a, b", NTLM',), ("Basic realm=x", "Negotiate"),
])  # fmt: skip
def test_no_other_client_gets_an_authenticated_connection(lend_gateway: Starter, schemes: tuple[str, ...]) -> None:
    with Guarded(*schemes) as server:
        gateway = lend_gateway(before(server))
        scheme = "NTLM" if "ntlm" in schemes[-1].lower() else "Negotiate"
        with RawClient(gateway.port) as alice, RawClient(gateway.port) as bob:
            assert log_in(alice, scheme, "alice").endswith(b" alice")
            assert bob.get("/").status == 401
            with RawClient(gateway.port) as stranger:
                assert stranger.get("/").status == 401
            # Her connection stays hers, and is the same all the time.
            assert log_in(bob, scheme, "bob").endswith(b" bob")
            bodies = {alice.get("/").body for _ in range(5)} | {alice.get("/").body}
            assert len(bodies) == 1
            assert bodies.pop().endswith(b" alice")
        # It ends with her.
        eventually(lambda: server.open == 0, "the connections of those who left to end")
        with RawClient(gateway.port) as stranger:
            assert stranger.get("/").status == 401


def test_credentials_bind_a_connection_that_was_never_challenged(lend_gateway: Starter) -> None:
    with Guarded(shy=True) as server:
        gateway = lend_gateway(before(server))
        with RawClient(gateway.port) as alice, RawClient(gateway.port) as bob:
            assert alice.get("/").body == b"guarded 1 nobody"
            assert alice.get("/", "Authorization: Negotiate response-alice").body == b"guarded 1 alice"
            assert bob.get("/").body == b"guarded 2 nobody"
            assert alice.get("/").body == b"guarded 1 alice"


def test_basic_credentials_bind_nothing(lend_gateway: Starter) -> None:
    """Each request has them: connections are shared as ever."""
    with Guarded(shy=True) as server:
        gateway = lend_gateway(before(server))
        for _ in range(3):
            with RawClient(gateway.port) as client:
                assert client.get("/", "Authorization: Basic response-x").body == b"guarded 1 x"


def test_of_several_servers_the_same_one_goes_on(lend_gateway: Starter) -> None:
    with Guarded("NTLM", name="one") as one, Guarded("NTLM", name="two") as two:
        gateway = lend_gateway(before(one, two, balance="round-robin"))
        with RawClient(gateway.port) as alice, RawClient(gateway.port) as other:
            body = log_in(alice, "NTLM", "alice")
            for _ in range(4):
                assert other.get("/").status == 401
                assert alice.get("/").body == body


def test_a_server_that_hangs_up_is_asked_anew(lend_gateway: Starter) -> None:
    with Guarded("NTLM") as server:
        gateway = lend_gateway(before(server))
        with RawClient(gateway.port) as alice:
            log_in(alice, "NTLM", "alice")
            for connection in server._sockets:
                connection.shutdown(socket.SHUT_RDWR)
            eventually(lambda: server.open == 0, "the server to have hung up")
            assert alice.get("/").status == 401
            assert log_in(alice, "NTLM", "alice").endswith(b" alice")


def test_a_reload_without_the_server_ends_it(lend_gateway: Starter) -> None:
    with Guarded("NTLM") as server, Guarded("NTLM", name="next") as other:
        gateway = lend_gateway(before(server))
        with RawClient(gateway.port) as alice:
            log_in(alice, "NTLM", "alice")
            gateway.reload({**gateway.site, "backends": before(other)["backends"]})
            assert alice.get("/").status == 401
            assert log_in(alice, "NTLM", "alice").startswith(b"next ")

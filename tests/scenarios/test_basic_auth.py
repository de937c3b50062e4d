"""Users and passwords: who gets in, what servers and logs see of it, and what a flood of guesses does."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.system import libcrypt
from tests.scenarios.test_forwarding import fields
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.http2_client import Http2Client
from tests.support.raw import RawClient
from tests.support.waiting import eventually

APR1 = "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"
SHA = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="


@dataclass(frozen=True)
class Club:
    """A gateway with users, its server, and its access log."""

    gateway: GatewayProcess
    log: Path
    users: Path

    def get(self, path: str, user: str = "", password: str = "") -> tuple[int, dict[str, str]]:
        """The status of a response, and the header that the server saw."""
        with RawClient(self.gateway.port) as client:
            answer = client.get(path, *([login(user, password)] if user else []))
        return answer.status, dict(fields(answer.body)) if answer.status == 200 else {}


def login(user: str, password: str) -> str:
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture(scope="module")
def club(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Club]:
    directory = tmp_path_factory.mktemp("club")
    bcrypt = libcrypt.crypt("größe".encode(), b"$2y$10$abcdefghijklmnopqrstuu").decode()
    (directory / "users").write_text(
        f"# staff\nanna:{bcrypt}\nbert:{SHA}:a comment\ncara:{APR1}\ndora:{bcrypt}\nemil:{bcrypt}\n"
    )
    (directory / "users").chmod(0o640)
    with ExitStack() as stack:
        servers = [stack.enter_context(BackendServer(directory, "app1"))]
        description = site(servers)
        description["frontends"][0]["http2"] = True
        description["access_log"] = {"path": str(directory / "access.log")}
        users = str(directory / "users")
        description["routes"] = [
            {"match": {"path": "/admin/"}, "basic_auth": {"file": users, "realm": 'The "staff"'},
             "set_header": {"X-User": "{user}"}},
            {"match": {"path": "/admin/books/"}, "basic_auth": {"file": users, "users": "anna", "forward": False}},
            {"rewrite": "/headers", "match": {"path": "/admin/", "method": "GET"}},
            {"rewrite": "/sink", "match": {"path": "/admin/", "method": "POST"}},
            {"backend": "app"},
        ]  # fmt: skip
        yield Club(
            stack.enter_context(GatewayProcess(directory, description)), directory / "access.log", directory / "users"
        )


def test_only_clients_with_a_user_and_its_password_get_in(club: Club) -> None:
    with RawClient(club.gateway.port) as client:
        refused = client.get("/admin/")
        assert refused.status == 401
        assert refused.header("WWW-Authenticate") == 'Basic realm="The \\"staff\\"", charset="UTF-8"'
        assert b"401" in refused.body
        assert client.get("/headers").status == 200
    for user, password in (("anna", "größe"), ("bert", "password"), ("cara", "secret")):
        assert club.get("/admin/", user, password)[0] == 200
    for user, password in (("anna", ""), ("anna", "groesse"), ("nobody", "größe"), (":", "x"), ("anna:", "größe")):
        assert club.get("/admin/", user, password)[0] == 401
    with RawClient(club.gateway.port) as client:
        for odd in ("Authorization: Bearer abc", "Authorization: Basic", "Authorization: Basic %%%",
                    f"Authorization: Basic {b64encode(b'anna').decode()}"):  # fmt: skip
            assert client.get("/admin/", odd).status == 401
        assert client.get("/admin/", login("anna", "größe"), login("anna", "größe")).status == 401


def test_servers_get_the_credentials_unless_the_route_keeps_them(club: Club) -> None:
    status, seen = club.get("/admin/", "anna", "größe")
    assert (status, seen["x-user"]) == (200, "anna")
    assert seen["authorization"] == login("anna", "größe").partition(": ")[2]
    status, seen = club.get("/admin/books/", "anna", "größe")
    assert (status, seen["x-user"]) == (200, "anna")
    assert "authorization" not in seen
    assert club.get("/admin/books/", "cara", "secret")[0] == 401


def test_a_body_is_forwarded_once_the_password_has_been_checked(club: Club) -> None:
    body = b"x" * 100_000
    head = f"POST /admin/ HTTP/1.1\r\nHost: a\r\n{login('dora', 'größe')}\r\nContent-Length: {len(body)}\r\n\r\n"
    with RawClient(club.gateway.port) as client:
        assert client.ask(head.encode() + body, "POST").body == b"100000"
    with Http2Client(club.gateway.port) as client:
        basic = ("authorization", login("anna", "größe").partition(": ")[2])
        assert client.get("/admin/", basic).status == 200
        assert client.get("/admin/").status == 401
        assert client.get("/admin/", ("authorization", "Basic YW5uYTp4eA==")).status == 401


def test_the_log_has_the_user_and_never_a_password(club: Club) -> None:
    def entries() -> list[str]:
        lines = club.log.read_text().splitlines() if club.log.exists() else []
        return [entry["user"] for entry in map(json.loads, lines) if entry["uri"] == "/admin/?logged"]

    club.get("/admin/?logged", "anna", "größe")
    club.get("/admin/?logged", "secret-in-the-wrong-box", "x")
    eventually(lambda: entries() == ["anna", ""], "two lines in the log")
    assert "secret" not in club.log.read_text()
    assert "secret" not in club.gateway.log
    assert b64encode("anna:größe".encode()).decode() not in club.log.read_text() + club.gateway.log


def test_guesses_are_bounded_and_do_not_delay_others(club: Club) -> None:
    with ExitStack() as stack:
        guesses = [stack.enter_context(RawClient(club.gateway.port)) for _ in range(30)]
        for i, client in enumerate(guesses):
            client.send(f"GET /admin/ HTTP/1.1\r\nHost: a\r\n{login('anna', f'guess {i}')}\r\n\r\n".encode())
        with RawClient(club.gateway.port) as other:
            for _ in range(20):
                assert other.get("/headers").status == 200
            assert other.get("/admin/", login("anna", "größe")).status == 200  # its result is known
        guesses[0].close()  # in the middle of its check
        statuses = [client.response().status for client in guesses[1:]]
        assert set(statuses) == {401, 429}
        assert statuses.count(429) >= 15
    assert club.get("/admin/", "anna", "größe")[0] == 200


def test_a_request_that_is_sent_again_after_a_reset_is_checked(club: Club) -> None:
    with Http2Client(club.gateway.port) as client:
        for i in range(4):
            client.begin("/admin/", ("authorization", login("anna", f"busy {i}").partition(": ")[2]))
        emil = ("authorization", login("emil", "größe").partition(": ")[2])  # whose password is not known yet
        client.connection.reset_stream(client.begin("/admin/", emil))
        assert client.get("/admin/", emil).status == 200


def test_a_changed_file_of_users_is_taken_up_and_one_with_a_mistake_is_not(club: Club) -> None:
    before = club.users.read_text()
    club.users.write_text("anna:secret\n")
    club.gateway.wait_for_log(f"the users of {club.users} stay as they were: {club.users}:1: not a hash")
    assert club.get("/admin/", "anna", "größe")[0] == 200
    club.users.write_text(f"erna:{SHA}\n" + before.replace("anna", "annette"))
    eventually(lambda: club.get("/admin/", "erna", "password")[0] == 200, "the new file")
    assert club.get("/admin/", "anna", "größe")[0] == 401
    assert "reloaded" not in club.gateway.log

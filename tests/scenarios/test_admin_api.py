"""The API for operators, asked of a whole gateway over HTTP."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin.api import OPERATIONS, ROOT
from gateway.config.posted import LARGEST
from gateway.system import running
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

TOKENS = {"alice": "operate", "carol": "configure", "prometheus": "read"}


USERS = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"
"""What `htpasswd -s` writes for the password "password"."""


class Operated:
    """A gateway with two servers, and its API."""

    def __init__(self, directory: Path, gateway: GatewayProcess, servers: list[BackendServer], port: int) -> None:
        self.directory = directory
        self.gateway = gateway
        self.servers = servers
        self.url = f"http://127.0.0.1:{port}{ROOT}"

    def get(self, path: str, who: str = "prometheus") -> Any:
        answer = httpx.get(self.url + path, headers=bearer(who))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, who: str = "alice", **body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=bearer(who), timeout=30)


def bearer(who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer the token of {who}"}


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    directory = tmp_path_factory.mktemp("api")
    operators = []
    for name, role in TOKENS.items():
        (directory / f"{name}.token").touch(mode=0o600)
        (directory / f"{name}.token").write_text(f"the token of {name}\n")
        operators.append({"name": name, "token_file": f"{name}.token", "role": role})
    port = free_port()
    with BackendServer(directory, "app1") as one, BackendServer(directory, "app2") as two:
        description = site([one, two], workers=2, check={"http": "/", "interval": "100ms"}, affinity={"cookie": "s"})
        description["admin"] = {"sockets": str(directory), "listen": f"127.0.0.1:{port}", "operators": operators}
        description["tests"] = [{"request": "GET http://a/", "expect": {"backend": "app"}},
                                {"request": "GET http://b/", "expect": {"status": 404}}]  # fmt: skip
        description["include"] = ["more", "empty"]
        (directory / "more").mkdir()
        (directory / "more" / "a.yaml").write_text("routes: [{match: {path: /included}, backend: app}]\n")
        (directory / "empty").mkdir()
        (directory / "users").touch(mode=0o600)
        (directory / "users").write_text(USERS)
        description["routes"].insert(0, {"match": {"path": "/private"}, "basic_auth": "users", "backend": "app"})
        description["qos"] = {"classes": [{"name": "everyone"}], "sessions": {"max": 10}}
        with GatewayProcess(directory, description) as gateway:
            yield Operated(directory, gateway, [one, two], port)


KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def fits(value: Any, schema: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether a value is what a schema of the description says, without further keys."""
    if "$ref" in schema:
        return fits(value, known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return any(fits(value, choice, known) for choice in schema["anyOf"])
    kind = schema.get("type")
    if kind == "object":
        return isinstance(value, dict) and object_fits(value, schema, known)
    if kind == "array":
        return isinstance(value, list) and all(fits(item, schema.get("items", {}), known) for item in value)
    return kind is None or isinstance(value, KINDS[kind])


def object_fits(value: dict[str, Any], schema: dict[str, Any], known: dict[str, Any]) -> bool:
    inner, others = schema.get("properties", {}), schema.get("additionalProperties")
    return (
        set(schema.get("required", ())) <= value.keys()
        and (inner.keys() >= value.keys() or isinstance(others, dict))
        and all(fits(item, inner.get(key, others), known) for key, item in value.items())
    )


def test_every_answer_is_as_the_description_says(operated: Operated) -> None:
    description = operated.get("/openapi.json")
    assert description["openapi"] == "3.1.0"
    assert {(path, method) for path, at in description["paths"].items() for method in at} == {
        (operation.path, operation.method.lower()) for operation in OPERATIONS
    }
    known = description["components"]["schemas"]
    seen = 0
    for path, methods in description["paths"].items():
        if "get" in methods and path not in {"/events", "/logs", "/openapi.json", "/schema"}:
            schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            assert fits(operated.get(path, "carol"), schema, known), path
            seen += 1
    assert seen == 18
    assert operated.get("/schema")["title"] == "Gateway site file"
    assert not fits({"error": 1}, {"$ref": "#/components/schemas/Failure"}, known)


def test_the_status_shows_servers_and_what_is_wrong(operated: Operated) -> None:
    with RawClient(operated.gateway.port) as client:
        assert client.get().status == 200
    up = {"app/app1": "up", "app/app2": "up"}
    eventually(lambda: {one["name"]: one["state"] for one in operated.get("/servers")} == up, "the servers to be up")
    operated.servers[1].kill()
    eventually(lambda: operated.get("/problems") != [], "the problem to be shown")
    (problem,) = operated.get("/problems")
    assert problem["what"] == "app/app2"
    assert "CONNECT" in problem["why"].upper()
    operated.servers[1].start()
    eventually(lambda: operated.get("/problems") == [], "the problem to be over")


def test_a_drain_over_http_is_that_of_the_command(operated: Operated) -> None:
    done = operated.post("/drain", target="app/app1")
    assert done.status_code == 200, done.text
    assert [(one["name"], one["admin"]) for one in done.json()["servers"]] == [("app/app1", "drain")]
    assert operated.get("/overrides")["of"]["app/app1"]["state"] == "drain"
    assert (operated.directory / "state").is_dir()
    assert operated.post("/weight", target="app", weight=7).json()["servers"][1]["weight"] == 7
    assert operated.post("/ready", target="app/app1").json()["servers"][0]["admin"] == "ready"
    assert operated.post("/forget", target="app").json()["servers"][1]["weight"] == 1
    assert operated.post("/maintenance", node=True).json()["node"] == "maintenance"
    assert operated.post("/forget", node=True).json()["node"] is None
    (newest, *_, oldest) = operated.get("/audit")
    assert (newest["who"], newest["what"], newest["target"], newest["result"]) == ("alice", "forget", "", "done")
    assert (oldest["what"], oldest["target"], oldest["before"]) == ("drain", "app/app1", None)
    assert oldest["after"]["state"] == "drain"
    assert "audit: alice: drain app/app1: from null to {" in operated.gateway.log


@pytest.mark.parametrize(
    "path, body, status, why",
    [
        ("/drain", {"target": "app/ap1"}, 409, "the backend app has no server ap1 (did you mean app1?)"),
        ("/drain", {"target": "none"}, 409, "there is no backend none"),
        ("/drain", {}, 400, "either a target, or node: true"),
        ("/drain", {"target": "app/app1 7"}, 400, "the name of a backend"),
        ("/drain", {"target": "app\n"}, 400, "the name of a backend"),
        ("/drain", {"target": "x" * 300}, 400, "target: "),
        ("/drain", {"server": "app/app1"}, 400, "server: "),
        ("/weight", {"target": "app", "weight": 0}, 409, "a weight is a number from 1 to 256"),
        ("/weight", {"target": "app", "weight": "1"}, 400, "weight: "),
        ("/reload", {"now": True}, 400, "now: "),
        ("/evacuate", {}, 409, "this gateway has no cluster"),
        ("/upgrade", {}, 404, "not found"),
    ],
)
def test_a_change_that_cannot_be_made(operated: Operated, path: str, body: Any, status: int, why: str) -> None:
    answer = operated.post(path, **body)
    assert answer.status_code == status, answer.text
    assert why in answer.json()["error"]


def test_a_request_is_explained_as_the_running_gateway_decides(operated: Operated) -> None:
    assert operated.post("/drain", target="app/app1").status_code == 200
    request = {"request": "GET http://a/here", "headers": [["X-A", "b"]], "client": "192.0.2.7"}
    found = operated.post("/explain", who="prometheus", **request)
    assert found.status_code == 200, found.text
    text = found.json()["text"]
    assert "seen as http from 192.0.2.7" in text
    assert re.search(r"  app1: \w+, drain", text)
    assert re.search(r"→ app2: up, ready", text)
    assert f"{operated.gateway.path}:" in text
    assert found.json()["decision"]["server"] == "app2"
    operated.post("/forget", target="app/app1")
    for wrong in ({"request": "GET"}, {"request": "GET http://a/", "client": "nobody"}):
        assert operated.post("/explain", **wrong).status_code == 409, wrong
    assert operated.post("/explain", request="GET http://a/", headers=[["a"]]).status_code == 400


def test_the_tests_of_the_site_file_in_use_are_run(operated: Operated) -> None:
    verdicts = operated.post("/tests", who="prometheus").json()["tests"]
    assert [(one["request"], one["passed"]) for one in verdicts] == [("GET http://a/", True), ("GET http://b/", False)]
    assert verdicts[1]["why"] == "status is the server's: backend app, not 404"


def test_a_posted_site_file_is_checked_and_tested_and_changes_nothing(operated: Operated) -> None:
    text = operated.get("/site", "carol")["text"]
    assert text == operated.gateway.path.read_text()
    same = operated.post("/check", who="carol", text=text).json()
    assert (same["ok"], same["problems"], same["diff"]) == (True, [], "")
    assert [one["passed"] for one in same["tests"]] == [True, False]
    changed = operated.post("/check", who="carol", text=text.replace("status: 404", "backend: app")).json()
    assert [one["passed"] for one in changed["tests"]] == [True, True]
    assert "\n+    backend: app" in changed["diff"]
    wrong = operated.post("/check", who="carol", text=text.replace("balance:", "balanse:")).json()
    (problem,) = wrong["problems"]
    assert (wrong["ok"], problem["line"]) == (False, 1 + text[: text.index("balance:")].count("\n"))
    assert "balanse" in problem["message"]
    secret = f"{text}\npages: {{502: /etc/shadow}}\n"
    assert (
        "cannot read /etc/shadow" in operated.post("/check", who="carol", text=secret).json()["problems"][0]["message"]
    )
    users = operated.directory / "users"
    as_rules = text.replace("\n- backend: app\n", f"\n- apache: {users}\n- backend: app\n")
    for other in (f"{text}\npages: {{502: {users}}}\n", f"{text}\nmaps: {{m: {users}}}\n", as_rules):
        hidden = operated.post("/check", who="carol", text=other)
        assert f"cannot read {users}" in hidden.json()["problems"][0]["message"]
        assert USERS[:8] not in hidden.text
    for name in ("none", "none.yaml", "/dev/zero", "/etc/shadow", "none/*.yaml"):
        found = operated.post("/check", who="carol", text=text.replace("- empty", f"- {name}")).json()
        (problem,) = found["problems"]
        assert (found["ok"], "cannot read" in problem["message"]) == (False, True), problem
        assert name.partition("/*")[0] in problem["message"]
    assert operated.post("/check", who="alice", text=text).status_code == 403
    assert httpx.get(f"{operated.url}/site", headers=bearer("alice")).status_code == 403
    assert operated.gateway.path.read_text() == text


def test_a_posted_site_file_is_applied_or_the_old_one_stays(operated: Operated) -> None:
    path = operated.gateway.path
    good, mode = path.read_text(), path.stat().st_mode
    version = operated.get("/status")["gateway"]["version"]
    done = operated.post("/apply", who="carol", text=f"{good}\n# applied\n").json()
    kept = done.pop("history")
    assert done == {"version": version + 1, "warnings": []}
    assert [one["number"] for one in operated.get("/history", who="carol")["versions"] if one["in_force"]] == [kept]
    assert (path.read_text(), path.stat().st_mode) == (f"{good}\n# applied\n", mode)
    refused = operated.post("/apply", who="carol", text="frontends: 1\n")
    assert (refused.status_code, path.read_text()) == (409, f"{good}\n# applied\n")
    assert "site.yaml:1:12" in refused.json()["error"]
    secret = operated.directory / "secret"
    secret.write_text("root:*:20228:0:99999:7:::\n")
    refused = operated.post("/apply", who="carol", text=good.replace("- empty", f"- {secret}"))
    assert f"{secret}:1:1: this key stands in the site file itself" in refused.json()["error"]
    (newest, *_) = operated.get("/audit")
    assert newest["result"] == f"reload refused; keeping version {kept}"
    for seen in (refused.text, operated.gateway.log, json.dumps(operated.get("/status"))):
        assert "20228" not in seen
    path.write_text(good)
    changed = operated.post("/apply", who="carol", text=f"{good}\n# lost\n")
    assert (changed.status_code, path.read_text()) == (409, good)
    assert "differs from what is in use" in changed.json()["error"]
    assert operated.post("/apply", who="alice", text=good).status_code == 403
    assert operated.post("/reload").status_code == 200
    (_, newest, *_) = operated.get("/audit")
    assert (newest["who"], newest["what"]) == ("carol", "apply")
    assert [one.name for one in path.parent.glob(".site.yaml*")] == []


def test_a_posted_site_file_of_many_mistakes_does_not_hold_up_the_supervisor(operated: Operated) -> None:
    version = operated.get("/status")["gateway"]["version"]
    supervisor = running.find(str(operated.gateway.process.pid))
    good = operated.gateway.path.read_text()
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(operated.post, "/apply", "carol", text="".join(f"key{n}: 1\n" for n in range(60_000)))
        while not wait([answer], 0.05).done:
            began = time.monotonic()
            assert supervisor.ask("about", 10)["version"] == version
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1
    assert answer.result().status_code == 409
    assert "site.yaml:1:1: unknown key key0" in answer.result().json()["error"]
    assert "more" in answer.result().json()["error"].splitlines()[-1]
    assert operated.gateway.path.read_text() == good
    assert operated.post("/apply", "carol", text="#" * (LARGEST + 1)).status_code == 400
    assert operated.get("/problems") == []  # no reload was tried


def test_a_token_that_may_read_changes_nothing(operated: Operated) -> None:
    for operation in OPERATIONS:
        if operation.method == "POST" and operation.role != "read":
            assert operated.post(operation.path, who="prometheus").status_code == 403, operation.path
            assert httpx.post(operated.url + operation.path, json={}).status_code == 401, operation.path
    assert operated.get("/overrides")["of"] == {}
    assert operated.get("/whoami", "alice") == {"name": "alice", "role": "operate"}


def test_events_show_each_change(operated: Operated) -> None:
    with httpx.stream("GET", f"{operated.url}/events", headers=bearer("prometheus"), timeout=20) as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        first = next(events)
        assert len(first["gateway"]["backends"][0]["servers"]) == 2
        assert operated.post("/drain", target="app/app2").status_code == 200
        second = next(events)
        assert [one["admin"] for one in second["gateway"]["backends"][0]["servers"]] == ["ready", "drain"]
    operated.post("/forget", target="app/app2")


@contextmanager
def logs(operated: Operated, query: str = "", who: str = "alice") -> Iterator[Iterator[dict[str, Any]]]:
    """Requests as they end; it has begun to follow on entry."""
    url = f"{operated.url}/logs?{query}"
    with httpx.stream("GET", url, headers=bearer(who), timeout=20) as stream:
        if stream.status_code != 200:
            raise Refused(f"{stream.status_code} {stream.read().decode()}")
        lines = stream.iter_lines()
        next(lines)  # a comment
        yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))


class Refused(Exception):
    """Status and body of an answer."""


def test_requests_are_followed_as_they_end(operated: Operated) -> None:
    with (
        logs(operated) as everything,
        logs(operated, "outcome=no_route&outcome=answered") as unanswered,
        logs(operated, 'when=path.startsWith("/status/5")') as failed,
        logs(operated, "steps=true&most=1") as steps,
    ):
        with pytest.raises(Refused, match=r"503 .*4 tails are followed over HTTP already"), logs(operated):
            pass
        with RawClient(operated.gateway.port) as client:
            client.get("/status/503")
            client.get("/bytes/10")
            client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        seen = [next(everything) for _ in range(3)]
        assert [one["uri"] for one in seen[:2]] == ["/status/503", "/bytes/10"]
        assert (seen[2]["status"], seen[2]["outcome"]) == (400, "refused")
        assert next(failed)["uri"] == "/status/503"
        first = next(steps)
        assert (first["step"], first["verdict"]) == ("decided", "backend")
        del unanswered
    with ExitStack() as stack:
        for _ in range(4):  # those that have gone have left their places
            eventually(lambda: follows(operated, stack, []), "room for another one")


def follows(operated: Operated, stack: ExitStack, begun: list[Iterator[dict[str, Any]]]) -> bool:
    """Follow requests, if there is a place."""
    try:
        begun.append(stack.enter_context(logs(operated)))
    except Refused:
        return False
    return True


@pytest.mark.parametrize(
    "query, who, why",
    [
        ("when=pth==1", "alice", "400 .*did you mean path"),
        ("outcome=no_rout", "alice", "400 .*outcome.0"),
        ("steps=true", "alice", "400 .*of 1 to 100 requests"),
        ("colour=red", "alice", "400 .*colour"),
        ("per_second=100000", "alice", "400 .*per_second"),
        ("", "prometheus", "403 .*this needs the role operate"),
    ],
)
def test_what_cannot_be_followed_is_refused(operated: Operated, query: str, who: str, why: str) -> None:
    with pytest.raises(Refused, match=why), logs(operated, query, who):
        pass


def test_a_reload_over_http_waits_for_its_outcome(operated: Operated) -> None:
    before = operated.get("/status")["gateway"]["version"]
    good = operated.gateway.path.read_text()
    done = operated.post("/reload").json()
    kept = done.pop("history")
    assert done == {"version": before + 1, "warnings": []}
    operated.gateway.path.write_text("frontends: 1\n")
    refused = operated.post("/reload")
    assert refused.status_code == 409
    assert f"keeping version {kept}:" in refused.json()["error"]
    (problem,) = operated.get("/problems")
    assert (problem["what"], operated.get("/audit")[0]["what"]) == ("site file", "reload")
    operated.gateway.path.write_text(good)
    # The token of one who leaves counts until the reload. Streams of the test before may still be ending.
    begun: list[Iterator[dict[str, Any]]] = []
    with ExitStack() as stack:
        eventually(lambda: follows(operated, stack, begun), "a place among the streams of requests")
        (operated.directory / "alice.token").write_text("another token of alice\n")
        assert operated.post("/reload").status_code == 200
        assert list(begun[0]) == []  # it ends, though no request comes
    assert operated.post("/reload").status_code == 401
    assert operated.get("/problems") == []

"""Rules in Python: what they see, what they may return, and what becomes of their mistakes."""

import logging
import time
from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.rules.actions import Respond
from gateway.rules.compiler import compile_routes
from gateway.rules.routes import RouteTable
from gateway.rules.view import View
from tests.rules.views import view

SITE = """\
frontends: [{listen: "127.0.0.1:80"}]
backends: {app: {servers: ["127.0.0.1:1"]}, other: {servers: ["127.0.0.1:2"]}}
routes:
  - python: {function: "custom:route", budget: 20ms}
  - backend: app
"""


def table(directory: Path, body: str, top: str = "", budget: str = "1m") -> RouteTable:
    (directory / "custom.py").write_text(f"{top}\ndef route(request):\n    {body}\n")
    (directory / "site.yaml").write_text(SITE.replace("20ms", budget))
    loaded = load(directory / "site.yaml")
    return compile_routes(loaded.site, {"app": "app", "other": "other"}, loaded.files)


@pytest.fixture
def asked() -> View:
    return view("PUT", "https://A.example/x%20y?q=a%20b&z", ["X-A: 1", "X-A: 2", "Cookie: c=d"], client="192.0.2.7")


def test_what_a_function_sees(tmp_path: Path, asked: View) -> None:
    routes = table(
        tmp_path,
        "return {'respond': {'body': repr((request.method, request.scheme, request.host, request.path, request.query,"
        " request.client, request.class_, request.header('x-a'), request.headers('X-A'), request.header('n'),"
        " request.cookie('c'), request.param('q'), request.param('z')))}}",
    )
    answer = routes.find(asked)
    assert isinstance(answer, Respond)
    assert answer.body == (
        b"('PUT', 'https', 'a.example', '/x%20y', 'q=a%20b&z', '192.0.2.7', None, '1', ['1', '2'], None, 'd', 'a b', '')"
    )


@pytest.mark.parametrize("body, outcome", [
    ("return None", "app"), ("return {'backend': 'other'}", "other"), ("return {}", "app"),
    ("return {'redirect': '/x'}", (302, b"Location: /x\r\n", b"")),
    ("return {'redirect': {'to': 'https://b/', 'status': 308}}", (308, b"Location: https://b/\r\n", b"")),
    ("return {'respond': 410}", (410, b"", b"")),
    ("return {'respond': {'body': 'x', 'type': 'a/b', 'headers': {'X': 'y'}}}", (200, b"Content-Type: a/b\r\nX: y\r\n", b"x")),
])  # fmt: skip
def test_what_it_may_return(tmp_path: Path, asked: View, body: str, outcome: object) -> None:
    found = table(tmp_path, body).find(asked)
    assert ((found.status, found.lines, found.body) if isinstance(found, Respond) else found) == outcome


def test_changes_and_going_on(tmp_path: Path, asked: View) -> None:
    routes = table(
        tmp_path,
        "return {'rewrite': '/new?x', 'class': 'c', 'set_header': {'A': 'b', 'C': None}, 'append_response_header': {'D': 'e'}}",
    )
    assert routes.find(asked) == "app"
    assert (asked.uri_now, asked.klass) == (b"/new?x", "c")
    assert asked.request_edits is not None
    assert asked.response_edits is not None
    assert asked.request_edits.listed() == ([b"a", b"c"], b"A: b\r\n")
    assert asked.response_edits.listed() == ([], b"D: e\r\n")


@pytest.mark.parametrize("body, why", [
    ("raise KeyError('no')", "KeyError: 'no'"), ("return 'x'", "expected None or a mapping"), ("return {'bakend': 'app'}", "expected None"),
    ("return {'backend': 'nobody'}", "there is no backend nobody"), ("return {'redirect': '/a\\r\\nSet-Cookie: x'}", "contains a space or control"),
    ("return {'set_header': {'A': 'b\\r\\nC: d'}}", "contains a control character"), ("return {'set_header': {'A: x': 'b'}}", "cannot be set"),
    ("return {'set_header': {'Content-Length': '1'}}", "cannot be set"), ("return {'respond': 99}", "99 is not a status"),
    ("return {'redirect': {'to': '/', 'status': 200}}", "not a redirect status"), ("return {'rewrite': 'x'}", "begins with /"),
    ("return {'class': 5}", "expected text"), ("import sys; sys.setrecursionlimit(200); return route(request)", "RecursionError"),
])  # fmt: skip
def test_a_mistake_is_a_500_and_one_entry_in_the_log(
    tmp_path: Path, asked: View, caplog: pytest.LogCaptureFixture, body: str, why: str
) -> None:
    import sys  # noqa: PLC0415

    limit = sys.getrecursionlimit()
    routes = table(tmp_path, body)
    try:
        for _ in range(3):
            answer = routes.find(asked)
            assert isinstance(answer, Respond)
            assert (answer.status, answer.body) == (500, None)
    finally:
        sys.setrecursionlimit(limit)
    (record,) = caplog.records
    assert record.getMessage() == "python rule custom:route failed: answered with 500"
    assert why in caplog.text
    step = routes.routes[0].steps[0]
    assert (step.calls, step.failures) == (3, 3)  # type: ignore[attr-defined]


class Clock:
    """In place of time.perf_counter."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_over_budget_is_reported(
    tmp_path: Path, asked: View, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    body = "time.perf_counter.now += 0.3 if request.header('X-A') else 0.1"
    routes = table(tmp_path, body, top="import time", budget="200ms")
    assert routes.find(view()) == "app"
    assert not caplog.records
    for _ in range(2):
        assert routes.find(asked) == "app"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "python rule custom:route took 300.0 ms" in record.getMessage()
    assert "its budget is 200 ms; 1 of 2 calls so far" in record.getMessage()
    assert routes.routes[0].steps[0].over_budget == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("source, why", [
    ("def route(request:\n", "custom.py:1: "), ("def rute(request): pass", "has no function route (did you mean rute?)"),
    ("async def route(request): pass", "custom.py:1: route must not be async"), (None, "cannot read"),
])  # fmt: skip
def test_what_check_finds(tmp_path: Path, source: str | None, why: str) -> None:
    if source is not None:
        (tmp_path / "custom.py").write_text(source)
    (tmp_path / "site.yaml").write_text(SITE)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "site.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/site.yaml:4:")
    assert why in str(caught.value)


def test_a_file_that_cannot_be_run_is_a_500(tmp_path: Path, asked: View, caplog: pytest.LogCaptureFixture) -> None:
    answer = table(tmp_path, "return None", top="1 / 0").find(asked)
    assert isinstance(answer, Respond)
    assert answer.status == 500
    assert "python rule custom:route cannot be loaded" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_not_a_function(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE.replace("custom:route", "../custom:route"))
    with pytest.raises(ConfigError, match="expected module:function"):
        load(tmp_path / "site.yaml")

import re
from dataclasses import replace
from itertools import dropwhile
from pathlib import Path

from gateway.board import DOWN, DRAIN, OUT, Board
from gateway.control import servers, show
from gateway.health.result import Outcome, Result
from gateway.outcome import OUTCOMES
from gateway.reports import GatewayReport, MemoryReport, OverridesReport, TargetReport
from tests.admin.reports import control
from tests.control.sites import snapshot

SERVERS = [
    {"name": "a", "address": "127.0.0.1:1", "max_connections": 20},
    {"name": "b", "address": "127.0.0.1:2", "weight": 3, "backup": True},
]


def a_report(directory: Path) -> GatewayReport:
    site = snapshot(directory, {"app": {"servers": SERVERS, "affinity": {"source": 24}}})
    board = Board()
    a, b = (site.slots["app", name] for name in "ab")
    board.set_admin(a, DRAIN)
    board.set_load(a, 0.25)
    board.set_weight(a, 0.5)
    board.add_in_flight(a, 0, 2)
    board.add_in_flight(a, 1, 3)
    board.set_state(b, DOWN)
    board.set_ejected(b, OUT)
    board.set_ramp(b, 0.4)
    board.set_pulse(0, 1.0)
    for status in (200, 499, 404, 502):
        board.pass_through(site.traffic["frontend", site.site.frontends[0].name], 0, status, 0.1)
    checks = {
        ("app", "a"): Result(Outcome.OK, 0.0031, "HTTP 200"),
        ("app", "b"): Result(Outcome.TCP_CONNECT_REFUSED, 0.001, "Connection refused"),
    }
    agents = {("app", "b"): Result(Outcome.AGENT_TIMEOUT, 1.0, "no answer")}
    found = servers.report(site, board, checks, agents, 1000.0)
    memory = MemoryReport(used=None, of=None, limit=None, short=False)
    nothing = dict.fromkeys(("sessions", "dns", "acme", "tracing"))
    return replace(control(memory=memory, dns_updates=(), sites={}, site_states={}, **nothing), **vars(found))


def test_the_table(tmp_path: Path) -> None:
    _, web, *others = show.text(a_report(tmp_path)).splitlines()
    a, *b = dropwhile(lambda line: not line.startswith("app/"), others)
    assert web.split() == ["127.0.0.1:8080", "0/10000", "0", "4", "1", "1", "1"]
    assert a.split() == ["app/a", "unknown,", "drain", "0.5", "25%", "5/20", "0", "OK", "3", "ms"]
    assert re.sub(" +", " ", " ".join(b)) == (
        "app/b down, ejected, slow start 40%, backup 3 0 0 TCP_CONNECT_REFUSED 1 ms (Connection refused); "
        "agent AGENT_TIMEOUT 1000 ms (no answer)"
    )


def test_the_tables_fit_a_terminal(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    (backend,) = report.backends
    long = replace(backend.servers[0], name="n" * 40, max_connections=1000, in_flight=1000)
    outcomes = dict.fromkeys([name for name, *_ in OUTCOMES], 12345)
    (frontend,) = report.frontends
    whole = replace(
        control(),
        backends=(replace(backend, servers=(*backend.servers, long)), *control().backends),
        frontends=(replace(frontend, name="f" * 30, outcomes=outcomes),),
        overrides=OverridesReport(
            serial=1,
            node="drain",
            of={
                "app/" + "n" * 40: TargetReport(
                    state="ready", weight=256, overrules="maintenance", since=1e9, known=False
                )
            },
        ),
    )
    text = show.text(whole)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for word in (
        "n" * 40,
        "f" * 30,
        "in place of its agent's maintenance",
        "weight 256",
        "not in the site now",
        "gold",
        "ACCESS LOG: 12 lines could not be written",
    ):
        assert word in text


def test_sessions_of_a_draining_server_are_those_left(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    (backend,) = report.backends
    drained = replace(backend, servers=(replace(backend.servers[0], sessions=12),))
    assert "  12 left  " in show.text(replace(report, backends=(drained,)))

import pytest

from bench.cases import CASES, Case
from bench.farm import FarmFailed, Layout, farm
from bench.load import Load
from bench.peers.floor import FLOOR
from bench.peers.gateway import GATEWAY
from bench.rounds import Turns, measure
from tests.support.programs import needs, needs_header

pytestmark = [
    needs("cc", "taskset"),
    needs_header("openssl/ssl.h", "libssl-dev"),
    pytest.mark.skipif("len(__import__('os').sched_getaffinity(0)) < 2", reason="needs two processors"),
]


def test_cases_have_names_of_their_own():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_every_kind_of_case_is_measured_on_gateway_and_floor():
    cases = [case for case in CASES if case.quick]
    with farm([GATEWAY, FLOOR], Layout()) as running:
        before = running.counters()
        turns = Turns()
        for _ in range(2):
            measure(running, cases, 0.1, turns)
        figures = turns.figures()
        after = running.counters()
    found = {(figure.case, figure.proxy): figure for figure in figures if figure.metric == "cpu"}
    assert {case for case, proxy in found if proxy == "gateway"} == {case.name for case in cases}
    assert {case for case, proxy in found if proxy == "floor"} == {c.name for c in cases if not c.load.tls}
    for figure in found.values():
        assert len(figure.values) == 2
        assert 1.0 < figure.median < 50_000.0
    assert after[1] - before[1] > 100
    users = {figure.case: figure for figure in figures if figure.metric == "user" and figure.proxy == "gateway"}
    assert users["130 B"].median <= found["130 B", "gateway"].median


def test_a_case_that_fails_is_said():
    with farm([FLOOR], Layout()) as running, pytest.raises(Exception, match="errors in the warm-up"):
        measure(running, [Case("nonsense", Load("/nowhere"))], 0.1, Turns())


def test_a_proxy_that_does_not_start_is_said():
    broken = type(FLOOR)("broken", "cc", lambda _: ["sh", "-c", "echo no way >&2; exit 1"])
    with pytest.raises(FarmFailed, match="no way"), farm([broken], Layout()):
        pass

import os
import signal
from contextlib import ExitStack

import pytest

from tests.support import lent_gateway
from tests.support.deaths import is_child
from tests.support.gateway_process import site
from tests.support.lent_gateway import Lender, resting
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually


@pytest.fixture
def lender(tmp_path_factory):
    with Lender(tmp_path_factory) as lender:
        yield lender


def logging_site(servers, **keys):
    return {**site(servers), "access_log": {"path": "-", "format": "{uri}"}, **keys}


def test_nothing_of_one_site_is_seen_with_the_next(lender, start_servers):
    (server,) = start_servers("app1")
    with lender.lend(logging_site([server], workers=2)) as first:
        pids = first.workers()
        with RawClient(first.port) as client:
            assert client.get("/reset").status == 502
        eventually(lambda: first.output == "/reset\n", "the line")
        assert "app/app1" in first.log
        port = first.port
    assert not answers("127.0.0.1", port)
    with lender.lend(logging_site([server])) as second:
        assert second is first
        assert second.workers() == {0: pids[0]}
        assert "app/app1" not in second.log
        (of_server,) = second.status()["backends"][0]["servers"]
        assert (of_server["requests"], of_server["failures"]) == (0, 0)
        with RawClient(second.port) as client:
            assert client.get("/next").status == 200
        eventually(lambda: second.output == "/next\n", "its own line alone")


def test_two_at_a_time_are_two(lender):
    with lender.lend(resting()) as first, lender.lend(resting()) as second:
        assert first.process.pid != second.process.pid
        assert answers("127.0.0.1", first.port)
        assert answers("127.0.0.1", second.port)


def dies(gateway):
    pid = gateway.workers()[0]
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: not is_child(pid, gateway.process.pid), "it to die")


def is_killed(gateway):
    pid = gateway.kill_control()
    eventually(lambda: gateway.control() not in (None, pid), "another one")


@pytest.mark.parametrize("happens, said", [(dies, "died"), (is_killed, "control was replaced")])
def test_a_gateway_that_lost_a_process_fails_the_test_and_ends(lender, happens, said):
    """Even if the test says that it has killed it."""
    with pytest.raises(AssertionError, match=said), lender.lend(resting()) as gateway:
        happens(gateway)
    assert gateway.process.poll() is not None


def test_a_client_that_stays_fails_the_test(lender, monkeypatch):
    monkeypatch.setattr(lent_gateway, "GONE", 0.2)
    with (
        ExitStack() as stack,
        pytest.raises(AssertionError, match="all clients to be gone"),
        lender.lend(resting()) as gateway,
    ):
        stack.enter_context(RawClient(gateway.port)).get("/")


def test_a_site_that_is_refused_fails_the_test(lender):
    with lender.lend(resting()):
        pass
    broken = {**resting(), "routes": [{"backend": "b"}]}
    with pytest.raises(AssertionError, match="there is no backend b"), lender.lend(broken):
        pass

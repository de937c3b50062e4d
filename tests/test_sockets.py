import socket
from types import SimpleNamespace

import pytest

from gateway.config.address import Listen
from gateway.sockets import Sockets, StartError
from tests.support.connections import sockets_on
from tests.support.waiting import free_port


def site(workers, *ports):
    listen = tuple(Listen("127.0.0.1", port) for port in ports)
    return entrances(workers, listen)


def entrances(workers, listen, admin=None):
    return SimpleNamespace(
        workers=workers,
        frontends=(SimpleNamespace(listen=listen),),
        load_reports=None,
        sites=None,
        admin=SimpleNamespace(listen=admin),
    )


@pytest.fixture
def sockets():
    opened = Sockets()

    def become(site, leaving=frozenset()):
        nonlocal opened
        before, opened = opened, opened.adapt(site, leaving)
        before.close_except(opened)
        return opened

    yield become
    opened.close_except(Sockets())


def shares(sockets, port):
    return {number: [sock for at, sock in places if at.port == port] for number, places in sockets.workers.items()}


def test_sockets_are_shared_evenly_and_none_is_closed_or_opened_without_need(sockets):
    ports = free_port(), free_port()
    most = 0
    seen: set[socket.socket] = set()
    for workers in (5, 2, 4, 1, 3, 6, 2, 6):
        most = max(most, workers)
        now = sockets(site(workers, *ports))
        for port in ports:
            counts = [len(share) for share in shares(now, port).values()]
            assert (len(counts), sum(counts)) == (workers, most)
            assert max(counts) - min(counts) <= 1
            assert sockets_on(port) == most
        open_now = {sock for places in now.workers.values() for _, sock in places}
        assert len(open_now) == 2 * most
        assert seen <= open_now
        seen = open_now


def test_workers_keep_what_they_have(sockets):
    port = free_port()
    before = shares(sockets(site(3, port)), port)
    assert shares(sockets(site(3, port)), port) == before
    fewer = shares(sockets(site(2, port)), port)
    assert [fewer[number][0] for number in (0, 1)] == [before[number][0] for number in (0, 1)]
    # Number 2 still finishes its requests: another one gets the socket.
    more = shares(sockets(site(3, port), {2}), port)
    assert more == {0: before[0], 1: before[1], 3: before[2]}


def test_address_that_goes_takes_all_its_sockets_along(sockets):
    stays, goes, comes = free_port(), free_port(), free_port()
    sockets(site(3, stays, goes))
    sockets(site(1, stays, goes))
    sockets(site(2, stays, comes))
    assert [sockets_on(port) for port in (stays, goes, comes)] == [3, 0, 2]


def test_what_cannot_be_opened_changes_nothing(sockets):
    port = free_port()
    before = sockets(site(2, port))
    with pytest.raises(StartError, match=r"192\.0\.2\.1"):
        before.adapt(entrances(4, (Listen("127.0.0.1", port), Listen("192.0.2.1", port))))
    assert [len(share) for share in shares(before, port).values()] == [1, 1]
    assert sockets_on(port) == 2


def test_sockets_of_control_stay_while_their_address_does(sockets):
    port, asked = free_port(), Listen("127.0.0.1", free_port())
    own = (Listen("127.0.0.1", port),)
    first = sockets(entrances(1, own, asked)).control["admin"]
    assert sockets(entrances(2, own, asked)).control["admin"] is first
    other = Listen("127.0.0.1", free_port())
    assert sockets(entrances(2, own, other)).control["admin"][0] == other
    assert (sockets_on(asked.port), sockets_on(other.port)) == (0, 1)
    with pytest.raises(StartError, match="another program is using it"):
        Sockets().adapt(entrances(1, own, other))
    assert sockets(entrances(2, own)).control == {}
    assert sockets_on(other.port) == 0

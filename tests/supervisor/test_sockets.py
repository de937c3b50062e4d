import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.config.address import Listen
from gateway.process.channel import identity
from gateway.supervisor.roles import CONTROL
from gateway.supervisor.sockets import Sockets, StartError
from tests.support.connections import sockets_on
from tests.support.waiting import free_port


def site(workers, *ports):
    listen = tuple(Listen("127.0.0.1", port) for port in ports)
    return entrances(workers, listen)


def entrances(workers, listen, admin=None, mode=0o660):
    made = SimpleNamespace(
        workers=workers,
        frontends=(SimpleNamespace(listen=listen, socket_mode=mode),),
        load_reports=None,
        sites=None,
        dns=None,
        cluster=None,
        gets_certificates=False,
        admin=SimpleNamespace(listen=admin),
        tracing=None,
    )
    return SimpleNamespace(site=made, programs=frozenset())


@pytest.fixture
def sockets():
    opened = Sockets()

    def become(site, leaving=None):
        nonlocal opened
        before, opened = opened, opened.adapt(site, leaving)
        before.close_except(opened)
        return opened

    yield become
    opened.close_except(Sockets())


def of_workers(sockets):
    return sockets.groups["worker", "http"]


def shares(sockets, port):
    return {number: [sock for at, sock in places if at.port == port] for number, places in of_workers(sockets).items()}


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
        open_now = {sock for places in of_workers(now).values() for _, sock in places}
        assert len(open_now) == 2 * most
        assert seen <= open_now
        seen = open_now


def test_workers_keep_their_sockets(sockets):
    port = free_port()
    before = shares(sockets(site(3, port)), port)
    assert shares(sockets(site(3, port)), port) == before
    fewer = shares(sockets(site(2, port)), port)
    assert [fewer[number][0] for number in (0, 1)] == [before[number][0] for number in (0, 1)]
    # Number 2 still finishes its requests: another one gets the socket.
    more = shares(sockets(site(3, port), {"worker": {2}}), port)
    assert more == {0: before[0], 1: before[1], 3: before[2]}


def test_address_that_goes_takes_all_its_sockets_along(sockets):
    stays, goes, comes = free_port(), free_port(), free_port()
    sockets(site(3, stays, goes))
    sockets(site(1, stays, goes))
    sockets(site(2, stays, comes))
    assert [sockets_on(port) for port in (stays, goes, comes)] == [3, 0, 2]


def test_a_socket_that_cannot_be_opened_changes_nothing(sockets):
    port = free_port()
    before = sockets(site(2, port))
    with pytest.raises(StartError, match=r"192\.0\.2\.1"):
        before.adapt(entrances(4, (Listen("127.0.0.1", port), Listen("192.0.2.1", port))))
    assert [len(share) for share in shares(before, port).values()] == [1, 1]
    assert sockets_on(port) == 2


def test_sockets_of_control_stay_while_their_address_does(sockets):
    port, asked = free_port(), Listen("127.0.0.1", free_port())
    own = (Listen("127.0.0.1", port),)
    first = sockets(entrances(1, own, asked)).groups["control", "admin"]
    assert sockets(entrances(2, own, asked)).groups["control", "admin"] == first
    other = Listen("127.0.0.1", free_port())
    assert sockets(entrances(2, own, other)).groups["control", "admin"][0][0][0] == other
    assert (sockets_on(asked.port), sockets_on(other.port)) == (0, 1)
    with pytest.raises(StartError, match="another program is using it"):
        Sockets().adapt(entrances(1, own, other))
    assert sockets(entrances(2, own)).of(CONTROL, 0) == {}
    assert sockets_on(other.port) == 0


def unix(path):
    return Listen("", 0, str(path))


def connects(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_unix_socket_is_one_for_all_workers(sockets, tmp_path):
    path = tmp_path / "http.sock"
    before = sockets(entrances(3, (unix(path),)))
    shared = [sock for places in of_workers(before).values() for _, sock in places]
    assert len({sock.fileno() for sock in shared}) == 3
    assert len({identity(sock) for sock in shared}) == 1
    assert sockets(entrances(3, (unix(path),))).groups == before.groups
    for workers in (1, 4, 2):
        now = sockets(entrances(workers, (unix(path),)))
        assert [len(places) for places in of_workers(now).values()] == [1] * workers
        assert {identity(sock) for places in of_workers(now).values() for _, sock in places} == {identity(shared[0])}
        assert connects(path)
    assert shared[2].fileno() == -1


def test_unix_socket_goes_with_its_address_and_a_file_of_others_stays(sockets, tmp_path):
    ours, others = tmp_path / "ours.sock", tmp_path / "others.sock"
    sockets(entrances(2, (unix(ours), unix(others))))
    others.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(others))
        sockets(site(2, free_port()))
        assert (ours.exists(), others.exists()) == (False, True)


def test_unix_socket_that_nothing_listens_on_is_replaced(sockets, tmp_path):
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not connects(path)
    sockets(entrances(1, (unix(path),)))
    assert connects(path)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_unix_socket_in_use_is_refused_and_left_alone(sockets, tmp_path, kind):
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_STREAM:
            other.listen(0)
        for _ in range(2):  # the queue holds one connection, the first probe's: a full one is no less in use
            with pytest.raises(StartError, match=r"cannot listen on unix:.*http\.sock: another process is using it"):
                sockets(entrances(1, (unix(path),)))
        assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_a_file_that_is_no_socket_is_left_alone(sockets, tmp_path, make):
    path = tmp_path / "http.sock"
    make(path)
    before = path.lstat()
    with pytest.raises(StartError, match="there is a file that is no socket; it is left alone"):
        sockets(entrances(1, (unix(path),)))
    assert path.lstat() == before


def test_unix_socket_cannot_be_where_there_is_no_directory(sockets, tmp_path):
    with pytest.raises(StartError, match=r"cannot listen on unix:.*: no such file or directory"):
        sockets(entrances(1, (unix(tmp_path / "no" / "http.sock"),)))


def test_unix_socket_of_a_site_that_is_refused_leaves_nothing(sockets, tmp_path):
    stays, comes = tmp_path / "stays.sock", tmp_path / "comes.sock"
    before = sockets(entrances(1, (unix(stays),)))
    with pytest.raises(StartError, match=r"192\.0\.2\.1"):
        before.adapt(entrances(1, (unix(stays), unix(comes), Listen("192.0.2.1", free_port()))))
    assert (connects(stays), comes.exists()) == (True, False)


def test_permissions_of_unix_sockets_are_those_of_the_site_file(sockets, tmp_path):
    path = tmp_path / "http.sock"
    for mode in (0o660, 0o606, 0o777):
        sockets(entrances(1, (unix(path),), mode=mode))
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_files_of_unix_sockets_are_removed_by_the_successor_once_it_has_taken_over(sockets, tmp_path):
    stays, goes = tmp_path / "stays.sock", tmp_path / "goes.sock"
    old = sockets(entrances(1, (unix(stays), unix(goes))))
    received = Sockets({"worker": {"http": {0: [(listen, sock.dup()) for listen, sock in of_workers(old)[0]]}}})
    files = dict(old.files)
    new = received.adapt(entrances(1, (unix(stays),), mode=0o600))
    received.close_except(new)
    # The reload may still fail; the old version then keeps both sockets.
    assert (connects(stays), connects(goes)) == (True, True)
    new.take_over(files)
    old.leave_files()
    assert (connects(stays), goes.exists()) == (True, False)
    assert stat.S_IMODE(stays.stat().st_mode) == 0o600
    sockets(site(1, free_port()))
    assert connects(stays)
    new.close_except(Sockets())
    assert not stays.exists()


def test_the_addresses_of_a_cluster_can_be_listened_at_before_this_machine_has_them(sockets):
    place = Listen("192.0.2.7", free_port())
    here = entrances(1, (place,))
    with pytest.raises(StartError, match="this machine does not have that address"):
        sockets(here)
    here.site.node = "gw1"
    shared = [SimpleNamespace(ip="192.0.2.7")]
    here.site.cluster = SimpleNamespace(nodes={"gw1": "192.0.2.1"}, listen=None, addresses=shared)
    sockets(here)
    assert sockets_on(place.port) == 1

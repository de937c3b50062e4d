"""Ways for beats, over real sockets, a pseudo-terminal and a file."""

import os
import select
import socket
import time
from pathlib import Path

import pytest

from gateway.config.cluster import Cluster
from gateway.heartbeat.beat import Codec
from gateway.heartbeat.links import NoLink, Serial, Udp, open_all
from tests.support.waiting import free_udp_port

MESSAGES = [b"one", bytes(range(256)), b"\xc0\xdb\xdc\xdd" * 50]


CODEC = Codec(b"0123456789abcdef")


def receive(link, count):
    """So many messages, or those that came within two seconds."""
    found: list[bytes] = []
    end = time.monotonic() + 2.0
    while len(found) < count and time.monotonic() < end:
        if select.select([link], [], [], 0.1)[0]:
            found += link.receive()
    return found


def cluster(*links, nodes=None):
    return Cluster.model_validate(
        {
            "key_file": "k",
            "nodes": nodes or {"gw1": "127.0.0.1", "gw2": "127.0.0.2"},
            "heartbeat": {"links": list(links)},
        },
        context={"directory": Path("/nowhere")},
    )


def pair(*links, nodes=None):
    described = cluster(*links, nodes=nodes)
    (one,), (other,) = open_all(described, "gw1", CODEC), open_all(described, "gw2", CODEC)
    return one, other


@pytest.fixture
def udp_port() -> int:
    return free_udp_port()


def test_udp_from_node_to_node(udp_port):
    one, other = pair({"udp": udp_port})
    for message in MESSAGES:
        one.send(message)
    assert receive(other, 3) == MESSAGES
    other.send(b"back")
    assert receive(one, 1) == [b"back"]
    one.close()
    other.close()


def test_multicast_on_an_interface(udp_port):
    described = cluster({"multicast": "239.0.0.94", "interface": "lo", "port": udp_port})
    (link,) = open_all(described, "gw1", CODEC)
    assert isinstance(link, Udp)
    link._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # it is alone here, and hears itself
    link.send(b"to all")
    assert receive(link, 1) == [b"to all"]
    link.close()


@pytest.mark.parametrize(
    "link, host",
    [
        ({"udp": 0}, "127.0.0.1"),
        ({"udp": 0, "interface": "lo", "nodes": {"gw1": "127.0.0.1"}}, "127.0.0.1"),
        ({"udp": 0, "interface": "lo"}, "255.255.255.255"),
        ({"multicast": "239.0.0.94", "interface": "lo"}, "239.0.0.94"),
    ],
)
def test_no_other_process_can_bind_the_port_of_a_link(link, host, udp_port):
    described = cluster({**link, **({"udp": udp_port} if "udp" in link else {"port": udp_port})})
    (found,) = open_all(described, "gw1", CODEC)
    for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
        for place in (host, ""):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
                for option in options:
                    thief.setsockopt(socket.SOL_SOCKET, option, 1)
                with pytest.raises(OSError, match="already in use"):
                    thief.bind((place, udp_port))
    found.close()


def test_links_of_all_kinds_share_a_port(udp_port):
    described = cluster(
        {"udp": udp_port},
        {"udp": udp_port, "interface": "lo"},
        {"udp": udp_port, "interface": "lo", "nodes": {"gw1": "127.0.0.3"}},
        {"multicast": "239.0.0.94", "interface": "lo", "port": udp_port},
    )
    for link in open_all(described, "gw1", CODEC):
        link.close()


def test_serial_line_carries_any_bytes_and_drops_noise():
    line, terminal = os.openpty()
    link = Serial(Path(os.ttyname(terminal)), 115200)
    for message in MESSAGES:
        os.write(line, b"\xc0noise"[:1] + Serial.frame(message))
    assert receive(link, 3) == MESSAGES
    link.send(MESSAGES[2])
    assert os.read(line, 4096) == Serial.frame(MESSAGES[2])
    os.write(line, b"x" * 3000)
    assert list(link.receive()) == []
    os.write(line, Serial.frame(b"after"))
    assert receive(link, 2)[-1] == b"after"
    link.close()
    os.close(line)
    os.close(terminal)


@pytest.mark.parametrize(
    "link, reason",
    [
        ({"serial": "/nowhere/tty"}, "no such file"),
        ({"disk": "/nowhere/disk"}, "no such file"),
        ({"serial": "/dev/null", "baud": 12345}, "not a serial line speed"),
        ({"udp": 694, "interface": "lo", "nodes": {"gw2": "127.0.0.2"}}, "gw1 has no address"),
        ({"multicast": "239.0.0.94", "interface": "nope0"}, "no such device"),
    ],
)
def test_a_link_that_cannot_be_used_says_why(link, reason):
    with pytest.raises(NoLink, match=f"(?i){reason}"):
        open_all(cluster(link), "gw1", CODEC)

"""What operators and the gateway's own state do to a shared address."""

import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from gateway.system.process_socket import ask
from tests.netns.lab import KEY, PYTHON, VIP, VIP6, Lab, Watch
from tests.support.open_files import open_files
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)

PROGRAM = """\
#!/bin/sh
echo "$0 $* ${GATEWAY_EVENT-} ${GATEWAY_VICTIM-} $(cat /proc/self/status | grep ^Uid | cut -f2)" >>"$(dirname "$0")/calls"
[ "$1" != monitor ] || [ ! -e "$(dirname "$0")/sick" ]
"""


def gateway_command(gateway, *arguments):
    return subprocess.run(
        [PYTHON, "-m", "gateway", *arguments[:1], str(gateway.directory / "site.yaml"), *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def script(gateway, name):
    path = gateway.directory / name
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return str(path)


def calls(gateway):
    path = gateway.directory / "calls"
    text = path.read_text() if path.exists() else ""
    return [line.replace(str(gateway.directory) + "/", "").split() for line in text.splitlines()]


def test_evacuate_gives_everything_away_and_join_returns(pair):
    pair.boot(pair.cluster(failback=True))
    gw1, _ = pair.gateways
    with Watch(pair) as watch:
        done = gateway_command(gw1, "evacuate")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{VIP} is at gw2\n{VIP6} is at gw2\n"
        assert not gw1.has()
        assert not gw1.has(VIP6)
        shown = gateway_command(gw1, "status")
        assert "gw1: drain; an owner needs 2 votes of the nodes and the witness" in shown.stdout
        assert "leases end by: kernel" in shown.stdout
        assert "owner → backup: drain" in shown.stdout
        assert f'gateway_heartbeat_owner{{address="{VIP}"}} 0' in gateway_command(gw1, "status", "--metrics").stdout
        assert gateway_command(gw1, "join").stdout == "gw1 takes part\n"
        eventually(gw1.has, "the address to return")
        watch.wait_for("gw1", 50)
        seen = watch.finish()
    seen.check("gw1", "gw2", "gw1")


def test_an_evacuated_site_releases_its_addresses(pair):
    """Two sites share them here: the one that stays takes them, once the other has no clients any more."""
    gw1, gw2 = pair.gateways
    names = {"gw1": "mel", "gw2": "syd"}
    sites = {name: {"url": f"http://{name}.example", "report": f"{gw.address}:7946"}
             for gw in pair.gateways for name in [names[gw.name]]}  # fmt: skip
    for gateway in pair.gateways:
        own = names[gateway.name]
        peers = {name: peer for name, peer in sites.items() if name != own}
        section = {"self": own, "listen": "0.0.0.0:7946", "key_file": "cluster.key", "peers": peers}
        gateway.write(pair.cluster(), sites=section)
        gateway.boot()
        gateway.wait_ready()

    def command(*arguments):
        done = subprocess.run(
            [PYTHON, "-m", "gateway", *arguments, "-g", str(gw1.directory / "site.yaml")],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    eventually(gw1.has, "gw1 to have the address")
    command("evacuate-site", "mel", "--timeout", "30")
    eventually(lambda: gw2.has() and gw2.has(VIP6), "the other site to have the addresses")
    assert not gw1.has()
    assert not gw1.has(VIP6)
    assert gw1.ask()["admin_state"] == "drain"
    command("evacuate-site", "mel", "--undo")
    eventually(lambda: gw1.ask()["admin_state"] == "join", "gw1 to take part again")


def test_a_drained_node_gives_its_addresses_away_until_it_is_ready_again(pair):
    pair.boot(pair.cluster(failback=True))
    gw1, gw2 = pair.gateways

    def command(*arguments):
        done = subprocess.run(
            [PYTHON, "-m", "gateway", *arguments, "-g", str(gw1.directory / "site.yaml")],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    eventually(gw1.has, "gw1 to have the address")
    assert command("drain", "--node") == "gw1: drain\n"
    eventually(lambda: gw2.has() and not gw1.has(), "the address to move")
    assert gw1.ask()["admin_state"] == "drain"
    (heartbeat,) = gw1.pids("gw-heartbeat")
    gw1.kill(heartbeat)
    eventually(lambda: gw1.pids("gw-heartbeat") not in ([], [heartbeat]), "another heartbeat process")
    eventually(lambda: gw1.ask()["admin_state"] == "drain", "it to know of the drain")
    assert gw2.has()
    assert command("ready", "--node") == "gw1: ready\n"
    eventually(gw1.has, "the address to return")


def test_evacuate_keeps_an_address_that_no_other_node_can_take(directory):
    with Lab(directory, witness=True) as lab:
        lab.boot()
        gw1, gw2 = lab.gateways
        gw2.signal_all(signal.SIGKILL)
        eventually(lambda: not gw1.sees("gw2"), "gw1 to see that gw2 is dead")
        done = gateway_command(gw1, "evacuate", "--timeout", "0.5")
        assert done.returncode == 1
        assert f"no other node has taken {VIP}" in done.stderr
        assert gw1.has()


def test_a_gateway_that_stops_gives_its_address_away_first(pair):
    pair.boot({**pair.cluster(), "router": pair.client.address})
    gw1, _ = pair.gateways
    with Watch(pair) as watch:
        os.kill(min(gw1.pids()), signal.SIGTERM)
        watch.wait_for("gw2")
        eventually(lambda: not gw1.pids(), "gw1 to end")
        watch.wait_for("gw2", 30)
        seen = watch.finish()
    seen.check("gw1", "gw2")
    assert re.search(r"heartbeat \(pid \d+\) ended with status 0", gw1.log.read_text())
    assert "gateway-lease" not in gw1.run("tc", "filter", "show", "dev", "eth0", "ingress")
    assert not gw1.has()


def test_a_gateway_whose_worker_is_stuck_gives_its_address_away(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    (worker,) = gw1.pids("gw-worker-0")
    os.kill(worker, signal.SIGSTOP)
    eventually(gw2.has, "gw2 to have the address")
    assert (
        "do not respond" in " ".join(entry["what"] for entry in gw1.ask()["history"])
        or gw1.ask()["addresses"][0]["fitness"] < 200
    )
    os.kill(worker, signal.SIGCONT)


def test_a_gateway_whose_backends_are_unreachable_gives_its_address_away(pair):
    pair.client.start(PYTHON, "-m", "http.server", "9001", "--bind", pair.client.address)
    server = f"{pair.client.address}:9001"
    check = {"tcp": True, "interval": "200ms", "timeout": "200ms", "fall": 2, "rise": 2}
    cluster = {**pair.cluster(), "listen": 7945}
    pair.boot(cluster, backends={"app": {"servers": [server], "check": check}})
    gw1, gw2 = pair.gateways
    gw2.write(cluster, backends={"app": {"servers": [server], "check": {**check, "interval": "24h"}}})
    os.kill(min(gw2.pids()), signal.SIGHUP)

    def checked():
        """What gw2 has found since it checks once a day, by chance or because gw1 has told it to look."""
        known = ask(gw2.directory, "status", "control")
        assert known["version"] == 2
        return known["backends"][0]["servers"][0]["check"]

    eventually(lambda: "control uses load 2" in gw2.log.read_text(), "gw2 to check once a day")
    assert checked() is None
    with Watch(pair) as watch:
        gw1.run("nft", "add table ip cut; add chain ip cut out { type filter hook output priority 0; }")
        gw1.run("nft", "add rule ip cut out tcp dport 9001 drop")
        watch.wait_for("gw2")
        seen = watch.finish()
    seen.check("gw1", "gw2")
    assert any("gw2 is fitter" in entry["what"] for entry in gw1.ask()["history"])
    eventually(lambda: checked() is not None, "gw2 to look because gw1 says so")
    assert checked()["result"] == "OK", "what gw1 finds, gw2 does not believe"
    lost = gw1.ask()["addresses"][0]["fitness"]
    gw1.run("nft", "delete", "table", "ip", "cut")
    eventually(lambda: gw1.ask()["addresses"][0]["fitness"] > lost, "gw1 to be believed again")
    assert gw2.has()


def test_reload_that_changes_nothing_of_the_cluster_moves_nothing(pair):
    pair.boot()
    gw1, _ = pair.gateways
    (before,) = gw1.pids("gw-heartbeat")
    with Watch(pair) as watch:
        gw1.write(pair.cluster(), drain="2s")
        os.kill(min(gw1.pids()), signal.SIGHUP)
        eventually(lambda: "heartbeat uses load 2" in gw1.log.read_text(), "the reload")
        watch.wait_for("gw1", 50)
        seen = watch.finish()
    assert gw1.pids("gw-heartbeat") == [before]
    seen.check("gw1")


def test_reload_with_another_address_brings_it_up(pair):
    pair.boot()
    cluster = pair.cluster()
    cluster["addresses"].append({"address": "192.0.2.11/24", "interface": "eth0"})
    for gateway in pair.gateways:
        gateway.write(cluster)
        os.kill(min(gateway.pids()), signal.SIGHUP)
    eventually(lambda: sum(g.has("192.0.2.11") for g in pair.gateways) == 1, "the new address")
    eventually(lambda: sum(g.has() for g in pair.gateways) == 1, "the old address")


def test_resources_and_hooks(pair):
    cluster = pair.cluster()
    del cluster["addresses"][1:]
    pair.start_witness()
    for gateway in pair.gateways:
        mine = {
            **cluster,
            "fence": script(gateway, "fence"),
            "on_takeover": script(gateway, "took"),
            "on_release": script(gateway, "gave"),
            "resources": [
                {"name": "mailer", "run": script(gateway, "mailer"), "with": VIP, "monitor": "200ms", "failures": 2}
            ],
        }
        gateway.write(mine)
    gw1, gw2 = pair.gateways
    gw1.boot()
    eventually(lambda: ["mailer", "monitor", "0"] in calls(gw1), "the resource to be monitored")
    eventually(lambda: ["took", "takeover", "0"] in calls(gw1), "the hook on gw1")
    gw2.boot()  # after gw1: the first one has the address
    gw2.wait_ready()
    first = [call for call in calls(gw1) if call[:2] != ["mailer", "monitor"]]
    assert first[0] == ["mailer", "start", "0"]
    assert not [call for call in first if call[0] == "fence"]

    (gw1.directory / "sick").touch()  # the monitor fails: started again, then moved
    eventually(gw2.has, "the address to move")
    eventually(lambda: ["mailer", "start", "0"] in calls(gw2), "the resource on gw2")
    eventually(lambda: [call[0] for call in calls(gw1)][-1] == "gave", "the hook on gw1")
    assert [call[1] for call in calls(gw1) if call[0] == "mailer"].count("start") == 2
    assert calls(gw1)[-2][:2] == ["mailer", "stop"]
    assert gw1.ask()["failures"] == {"resource mailer monitor": 2}
    assert gw1.ask()["releases"] == {VIP: 1}
    assert not [call for call in calls(gw2) if call[0] == "fence"]

    (gw1.directory / "sick").unlink()
    eventually(lambda: gw1.ask()["addresses"][0]["state"] == "backup", "gw1 to be well again")
    gw2.signal_all(signal.SIGKILL)
    eventually(gw1.has, "gw1 to take it from a dead node")
    assert ["fence", "fence", "gw2", "0"] in calls(gw1)


def test_only_the_heartbeat_may_change_the_network(pair):
    pair.boot()
    gw1, _ = pair.gateways

    def effective(name):
        (pid,) = gw1.pids(name)
        text = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert lines["CapEff"] == lines["CapPrm"]
        if name in ("gw-heartbeat", "gw-guardian"):
            assert lines["NoNewPrivs"] == "1"
        return int(lines["CapEff"], 16), lines["Uid"].split()[1]

    assert effective("gw-heartbeat") == (1 << 12 | 1 << 13, "65534")
    assert effective("gw-guardian") == (1 << 12, "65534")
    assert effective("gw-worker-0") == (0, "65534")
    assert effective("gw-control") == (0, "65534")


AMBIENT = "+net_bind_service,+net_admin,+net_raw,+bpf,+perfmon"
WITHOUT_ROOT = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"),
    *("--inh-caps", f"-all,{AMBIENT}", "--ambient-caps", f"-all,{AMBIENT}", "--bounding-set", f"-all,{AMBIENT}"),
)
"""As systemd does for conf/gateway-cluster.conf."""


@pytest.fixture
def open_pair():
    """As `pair`, in a directory that other accounts can enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        with Lab(Path(directory), witness=True) as lab:
            yield lab


def test_an_account_with_capabilities_shares_addresses_without_root(open_pair):
    pair = open_pair
    pair.start_witness()
    for gateway in pair.gateways:
        site = gateway.write(pair.cluster())
        for path in (gateway.directory, site, site.with_name("cluster.key")):
            os.chown(path, 65534, 65534)
        gateway.boot(wrapper=WITHOUT_ROOT)
        eventually(partial(gateway.pids, "gw-guardian"), "the guardian")
    gw1, gw2 = pair.gateways
    eventually(lambda: gw1.has() or gw2.has(), "a gateway to have the address")
    owner, other = (gw1, gw2) if gw1.has() else (gw2, gw1)
    expected = {"gw-heartbeat": 1 << 12 | 1 << 13, "gw-guardian": 1 << 12, "gw-worker-0": 0, "gw-control": 0}
    for name, capabilities in expected.items():
        (pid,) = owner.pids(name)
        text = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        found = {lines[key] for key in ("CapEff", "CapPrm")} | {lines["CapAmb"]}
        assert {int(each, 16) for each in found} <= {capabilities, 0}, name
        assert int(lines["CapEff"], 16) == capabilities
        assert lines["Uid"].split() == ["65534"] * 4
    assert "no lease in the kernel" not in owner.log.read_text()
    owner.signal_all(signal.SIGKILL)
    eventually(other.has, "the other one to have the address")


def has_open(pid, role):
    return open_files(pid) == role


def test_descriptors_of_the_processes_of_a_cluster(pair):
    """The guardian, which may be root, has the lock and its end of a socket: nothing that reads from a network."""
    pair.boot()
    gw1, _ = pair.gateways
    loop = {"eventpoll": 1, "unix": 2}  # of an event loop, or of the library for netlink
    expected = {
        "gw-guardian": Counter(loop) + Counter({"netlink": 1, "unix": 1, "node.lock (to write)": 1}),
        "gw-control": Counter(loop)
        + Counter({"gateway-board (to read)": 1, "meminfo (to read)": 1, "unix": 1})
        + Counter({"unix:control.sock": 1, "unix:api.sock": 1, "pipe": 4, "eventfd": 1}),
        "gw-worker-0": Counter(loop) + Counter({"gateway-board (to read)": 1, "unix": 3, "pipe": 2, "tcp:80": 2}),
    }
    for name, role in expected.items():
        (pid,) = gw1.pids(name)
        eventually(partial(has_open, pid, role), f"{name} to have what it needs", 10.0)
    (pid,) = gw1.pids("gw-heartbeat")
    found = open_files(pid)
    # Its links, ARP and ICMPv6 of its interface, the lease in the kernel; its lock, its socket, channel and guardian.
    assert sum(count for what, count in found.items() if what.startswith("udp:")) == 2
    assert {what: count for what, count in found.items() if not what.startswith("udp:")} == {
        "gateway-board (to read)": 1, "eventpoll": 2, "unix": 4, "netlink": 1, "packet": 1, "raw6": 1, "inet": 1,
        "anon_inode:bpf-map (to write)": 2, "node.lock (to write)": 1, "unix:handover.sock": 1, "unix:heartbeat.sock": 1,
    }  # fmt: skip


def test_forged_replayed_and_foreign_beats_are_counted_and_change_nothing(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    sender = """
import socket, sys, time
from gateway.heartbeat.beat import *
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def send(data):
    sock.sendto(data, ("192.0.2.2", 694))
claims = (Claim("192.0.2.10", Stake.OWNING, 255),)
def beat(node, key, sequence=2**60):
    return Codec(key).encode(Beat(node, 5, sequence, 0.4, 0.1, claims=claims))
key = bytes.fromhex(sys.argv[1])
good = beat("gw1", key)
for data in (beat("gw1", b"x" * 32), good[:40], good[:-1], b"", b"GWHB" + bytes(9000), beat("gw2", key), beat("who", key), good, good):
    send(data)
for _ in range(3000):
    send(good[:-1] + b"x")
"""
    with Watch(pair) as watch:
        pair.client.run(PYTHON, "-c", sender, KEY.hex())
        eventually(lambda: gw2.ask()["refused"].get("bad: signature", 0) > 100, "forged beats to be counted")
        watch.wait_for("gw1", 100)
        seen = watch.finish()
    seen.check("gw1")
    counters = gw2.ask()["refused"]
    assert counters["bad: size"] >= 2
    assert counters["refused: own name"] == 1
    assert counters["refused: unknown node"] == 1
    lately = {each["why"].partition(":")[0] for each in gw2.ask()["refused_lately"]}
    assert lately == {"signed with another key", "of a node that cluster", "of a node with the name of this one"}
    assert gw2.sees("gw1")
    assert gw1.ask()["addresses"][0]["state"] == "owner"


def test_an_upgrade_keeps_the_address(pair):
    cluster = pair.cluster()
    mailer = script(pair.gateways[0], "mailer")
    script(pair.gateways[1], "mailer")
    cluster["resources"] = [{"name": "mailer", "run": mailer, "with": VIP, "monitor": "200ms"}]
    pair.boot(cluster)
    gw1, gw2 = pair.gateways
    old, (heartbeat,) = min(gw1.pids()), gw1.pids("gw-heartbeat")
    with Watch(pair) as watch:
        os.kill(old, signal.SIGUSR2)
        eventually(lambda: heartbeat not in gw1.pids(), "the old heartbeat to end")
        eventually(lambda: old not in gw1.pids(), "the old gateway to end")
        count = len(calls(gw1))
        eventually(lambda: len(calls(gw1)) > count + 1, "the resource to be monitored")
        seen = watch.finish()
    assert gw1.has()
    seen.check("gw1")
    assert any("another process goes on" in entry["what"] for entry in gw1.ask()["history"])
    assert {call[1] for call in calls(gw1)} == {"start", "monitor"}
    assert [call[1] for call in calls(gw1)].count("start") == 1
    assert not [entry for entry in gw2.ask()["history"] if "dead" in entry["what"]]
    assert gw1.ask()["takeovers"] == {VIP: 1, VIP6: 1}
    gw1.signal_all(signal.SIGKILL)  # it is an owner like any other
    eventually(gw2.has, "gw2 to have the address")


def test_an_upgrade_to_another_cluster_gives_the_address_away(pair):
    pair.boot()
    gw1, _ = pair.gateways
    old = min(gw1.pids())
    with Watch(pair) as watch:
        gw1.write({**pair.cluster(), "on_takeover": "/bin/true"})
        os.kill(old, signal.SIGUSR2)
        watch.wait_for("gw2")
        eventually(lambda: old not in gw1.pids(), "the old gateway to end")
        eventually(lambda: gw1.ask()["addresses"][0]["state"] == "backup", "the new heartbeat of gw1")
        seen = watch.finish()
    seen.check("gw1", "gw2")

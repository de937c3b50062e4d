"""Two and three gateways share an address; clients ask it a hundred times a second while things fail.

Every scenario ends with what the switch has seen: each change of who speaks for the address is one that was meant, so
never did two gateways speak for it in turns.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.netns.lab import BOUND, KEY, PYTHON, VIP, VIP6, Lab, Watch, frozen
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)


def figures(host, *who):
    """Each sample of a gateway's metrics, as another host gets them, by name and labels."""
    families = text_string_to_metric_families(host.run("curl", "-sS", *who))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_all_processes_of_the_owner_are_killed(pair):
    pair.boot(admin={"listen": "0.0.0.0:8900", "token_file": "cluster.key"})
    gw1, gw2 = pair.gateways
    of_gw2 = ("-H", f"Authorization: Bearer {KEY.decode()}", f"http://{gw2.address}:8900/metrics")

    def figure(*name):
        return figures(pair.client, *of_gw2).get(name)

    eventually(lambda: figure("gateway_heartbeat_node_alive", "gw1") == 1, "the metrics of gw2")
    before = figures(pair.client, *of_gw2)
    assert before["gateway_heartbeat_takeovers_total", VIP] == before["gateway_heartbeat_owner", VIP] == 0
    assert before["gateway_heartbeat_address_owner_info", VIP, "gw1"] == before["gateway_ready",] == 1
    assert before["gateway_heartbeat_link_up", "gw1", "udp"] == 1
    assert 0 < before["gateway_heartbeat_link_delay_seconds", "gw1", "udp"] < 1
    with Watch(pair) as watch:
        gw1.signal_all(signal.SIGKILL)
        eventually(gw2.has, "gw2 to have the address")
        watch.wait_for("gw2", 100)
        seen = watch.finish()
    eventually(lambda: figure("gateway_heartbeat_takeovers_total", VIP) == 1, "the takeover to be counted")
    eventually(lambda: figure("gateway_heartbeat_node_alive", "gw1") == 0, "the death to be seen")
    assert figure("gateway_heartbeat_owner", VIP) == 1
    seen.check("gw1", "gw2")
    assert seen.speakers(VIP6) in (["gw1", "gw2"], ["gw2"])  # gw1 may have had nothing to say
    eventually(lambda: not gw1.has() and not gw1.has(VIP6), "the kernel of gw1 to let go of the address")
    assert any("gw1 is dead" in entry["what"] for entry in gw2.ask()["history"])


def test_killed_heartbeat_process_leaves_no_address_behind(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    (pid,) = gw1.pids("gw-heartbeat")
    with Watch(pair) as watch:
        gw1.kill(pid)
        eventually(lambda: not gw1.has(), "the guardian to take the address down")
        assert "the heartbeat process has exited; removing every shared address" in gw1.log.read_text()
        eventually(lambda: gw1.has() or gw2.has(), "one of them to have the address")
        eventually(lambda: gw1.ask()["addresses"][0]["state"] != "init", "gw1 to be back")
        watch.wait_for(answers=50)
        seen = watch.finish()
    assert seen.outage < BOUND
    assert seen.speakers() in (["gw1"], ["gw1", "gw2"])


def test_frozen_owner_does_not_answer_when_it_wakes_up(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    with Watch(pair) as watch:
        with frozen(gw1):
            eventually(gw2.has, "gw2 to have the address")
            watch.wait_for("gw2", 100)
        eventually(lambda: gw1.ask()["addresses"][0]["owner"] == "gw2", "gw1 to know the owner")
        watch.wait_for("gw2", 100)
        assert not gw1.has()
        seen = watch.finish()
    seen.check("gw1", "gw2")
    assert seen.answers[-1][1] == "gw2"
    assert gw1.ask()["addresses"][0]["owner"] == "gw2"


def test_frozen_heartbeat_process_is_noticed_by_the_guardian(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    (pid,) = gw1.pids("gw-heartbeat")
    with Watch(pair) as watch:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: not gw1.has(), "the guardian to take the address down")
        assert "not renewed by the heartbeat process in time; removed" in gw1.log.read_text()
        eventually(gw2.has, "gw2 to have the address")
        os.kill(pid, signal.SIGCONT)
        watch.wait_for("gw2", 100)
        assert not gw1.has()
        seen = watch.finish()
    seen.check("gw1", "gw2")


def test_link_of_the_owner_goes_down_and_comes_back(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    with Watch(pair) as watch:
        pair.unplug("gw1")
        eventually(gw2.has, "gw2 to have the address")
        eventually(lambda: not gw1.has(), "gw1 to take the address down")
        assert gw1.ask()["addresses"][0]["state"] == "fault"
        pair.plug("gw1")
        eventually(lambda: gw1.ask()["addresses"][0]["state"] == "backup", "gw1 to be a backup")
        watch.wait_for("gw2", 50)
        seen = watch.finish()
    seen.check("gw1", "gw2")
    assert any("announced" not in entry["what"] for entry in gw2.ask()["history"])
    for _ in range(3):
        pair.unplug("gw1")
        eventually(lambda: gw1.ask()["addresses"][0]["state"] == "fault", "gw1 to see that its carrier is gone")
        pair.plug("gw1")
        eventually(lambda: gw1.ask()["addresses"][0]["state"] == "backup", "gw1 to be a backup again")
    # It may take what no other node could, and no more, for 8 s.
    assert gw1.ask()["addresses"][0]["fitness"] == 1


def test_one_of_two_links_down_moves_nothing(directory):
    with Lab(directory, witness=True, links=2) as lab:
        lab.boot()
        _, gw2 = lab.gateways
        with Watch(lab) as watch:
            lab.unplug("gw1", second=True)
            eventually(lambda: not gw2.sees("gw1", link="udp eth1"), "gw2 to see that one link is down")
            watch.wait_for("gw1", 150)
            seen = watch.finish()
        seen.check("gw1")
        assert gw2.sees("gw1")
        assert gw2.sees("gw1", link="udp")


def test_switch_partition_with_the_witness_on_the_other_side(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    with Watch(pair) as watch:
        pair.cut("gw1")
        eventually(gw2.has, "gw2 to have the address")
        assert not gw1.has()
        watch.wait_for("gw2", 100)
        assert not gw1.has()
        pair.heal()
        eventually(lambda: gw1.ask()["addresses"][0]["owner"] == "gw2", "gw1 to know the owner")
        watch.wait_for("gw2", 50)
        seen = watch.finish()
    seen.check("gw1", "gw2")


def test_switch_partition_with_the_witness_on_the_owners_side(pair):
    pair.boot()
    _, gw2 = pair.gateways
    with Watch(pair) as watch:
        pair.cut("gw2")
        eventually(lambda: not gw2.sees("gw1"), "gw2 to lose sight of gw1")
        watch.wait_for("gw1", 150)
        assert not gw2.has()
        pair.heal()
        eventually(lambda: gw2.sees("gw1"), "gw2 to see gw1 again")
        watch.wait_for("gw1", 50)
        seen = watch.finish()
    seen.check("gw1")


def test_witness_that_dies_and_returns_moves_nothing(pair):
    pair.boot()
    gw1, _ = pair.gateways
    witness = pair.hosts["witness"]
    with Watch(pair) as watch:
        witness.processes[-1].kill()
        eventually(lambda: not gw1.sees("witness"), "gw1 to miss the witness")
        watch.wait_for("gw1", 50)
        pair.start_witness()
        eventually(lambda: gw1.sees("witness"), "gw1 to hear the witness again")
        watch.wait_for("gw1", 50)
        seen = watch.finish()
    seen.check("gw1")
    assert gw1.ask()["votes_needed"] == 2


@pytest.fixture(params=["file", "block device"])
def disk(request, directory):
    """What all gateways share: an empty file, or a block device (loop) of a megabyte."""
    path = directory / "disk"
    path.touch()
    if request.param == "file":
        yield path
        return
    with path.open("r+b") as file:
        file.truncate(1 << 20)
    if shutil.which("losetup") is None:
        pytest.skip("left out: there is no losetup (package mount)")
    made = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"left out: there is no loop device ({made.stderr.strip()})")
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_lease_on_a_disk_is_the_third_voice(directory, disk):
    with Lab(directory) as lab:
        lab.boot({**lab.cluster(), "witness": {"disk": str(disk)}})
        gw1, gw2 = lab.gateways
        assert gw1.ask()["mode"] == "witness"
        if disk.is_block_device():
            assert not [doubt for doubt in gw1.ask()["doubts"] if "direct I/O" in doubt]
        with Watch(lab) as watch:
            lab.cut("gw2")
            eventually(lambda: not gw1.sees("gw2"), "gw1 to lose sight of gw2")
            watch.wait_for("gw1", 100)
            assert gw1.has(), "it keeps the disk's vote"
            assert not gw2.has()
            lab.heal()
            eventually(lambda: gw1.sees("gw2"), "gw1 to see gw2 again")
            gw1.signal_all(signal.SIGKILL)
            eventually(gw2.has, "gw2 to have the address by the disk's vote")
            watch.wait_for("gw2", 50)
            seen = watch.finish()
        seen.check("gw1", "gw2")
        assert gw2.sees("witness", link=f"disk {disk}")


def test_partition_without_a_witness_may_split_and_is_settled_when_it_heals(directory):
    with Lab(directory) as lab:
        lab.boot()
        gw1, gw2 = lab.gateways
        assert gw1.ask()["mode"] == "may split"
        assert any("both may own" in doubt for doubt in gw1.ask()["doubts"])
        lab.cut("gw2")
        eventually(gw2.has, "gw2 to have the address as well")
        assert gw1.has()
        with Watch(lab) as watch:
            lab.heal()
            eventually(lambda: not gw2.has(), "gw2 to give way")
            watch.wait_for("gw1", 150)
            seen = watch.finish()
        assert gw1.has()
        assert seen.answers[-1][1] == "gw1"
        assert any("has precedence" in entry["what"] for entry in gw2.ask()["history"])


def test_partition_without_a_witness_leaves_it_to_the_side_with_the_router(directory):
    with Lab(directory) as lab:
        cluster = {**lab.cluster(), "router": lab.client.address}
        lab.boot(cluster)
        gw1, gw2 = lab.gateways
        with Watch(lab) as watch:
            lab.cut("gw1")
            eventually(gw2.has, "gw2 to have the address")
            eventually(lambda: not gw1.has(), "gw1 to give up")
            watch.wait_for("gw2", 50)
            assert not gw1.has()
            seen = watch.finish()
        assert seen.outage < BOUND
        # Without a witness no node waits for the other side to give up: on a slow machine both answer for a moment.
        assert seen.speakers()[0] == "gw1"
        assert seen.speakers()[-1] == "gw2"


@pytest.mark.parametrize("failback", [False, True])
def test_both_restart_at_once_and_the_old_owner_returns(pair, failback):
    pair.boot(pair.cluster(failback=failback))
    gw1, gw2 = pair.gateways
    with Watch(pair) as watch:
        gw1.signal_all(signal.SIGKILL)
        eventually(gw2.has, "gw2 to have the address")
        gw1.boot()
        gw1.wait_ready()
        if failback:
            eventually(gw1.has, "the address to return")
        watch.wait_for("gw1" if failback else "gw2", 150)
        assert (gw1.has(), gw2.has()) == (failback, not failback)
        seen = watch.finish()
    seen.check(*["gw1", "gw2", "gw1"][: 2 + failback])
    for gateway in (gw1, gw2):
        gateway.signal_all(signal.SIGKILL)
    for gateway in (gw1, gw2):
        gateway.boot()
    for gateway in (gw1, gw2):
        gateway.wait_ready()  # from here on nothing is left of what the killed one had
    eventually(gw1.has if failback else lambda: gw1.has() != gw2.has(), "the one that should to have the address")
    with Watch(pair) as watch:
        watch.wait_for(answers=50)
        assert gw1.has() != gw2.has()


def test_lost_packets_move_nothing(pair):
    pair.boot()
    seconds = float(os.environ.get("LOSS_SECONDS", "5"))
    with Watch(pair) as watch:
        pair.lose(20)
        time.sleep(seconds)  # what is tested is that this time is not too long
        pair.lose_nothing()
        watch.wait_for("gw1", 50)
        seen = watch.finish()
    assert seen.speakers() == ["gw1"]
    assert pair.gateways[1].sees("gw1")


def test_starved_processor_moves_nothing(pair):
    pair.boot()
    seconds = float(os.environ.get("STARVE_SECONDS", "4"))
    hogs = [subprocess.Popen([PYTHON, "-c", "while True: pass"]) for _ in range(8 * (os.cpu_count() or 1))]
    try:
        time.sleep(seconds)  # what is tested is that this time is not too long
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    for gateway in pair.gateways:
        assert not [entry for entry in gateway.ask()["history"] if "dead" in entry["what"]]
    assert pair.gateways[0].has()


def test_three_gateways_need_no_witness(directory):
    with Lab(directory, 3) as lab:
        lab.boot()
        gw1, gw2, _ = lab.gateways
        assert gw1.ask()["mode"] == "majority"
        with Watch(lab) as watch:
            lab.cut("gw1")
            eventually(gw2.has, "gw2 to have the address")
            watch.wait_for("gw2", 70)
            assert not gw1.has()
            lab.heal()
            eventually(lambda: gw1.ask()["addresses"][0]["owner"] == "gw2", "gw1 to be back")
            gw2.signal_all(signal.SIGKILL)
            watch.wait_for("gw1")
            seen = watch.finish()
        seen.check("gw1", "gw2", "gw1")


def test_short_beats_make_a_short_outage(pair):
    pair.boot(pair.cluster("20ms", "80ms"))
    gw1, gw2 = pair.gateways
    with Watch(pair) as watch:
        gw1.signal_all(signal.SIGKILL)
        eventually(gw2.has, "gw2 to have the address")
        watch.wait_for("gw2", 50)
        seen = watch.finish()
    seen.check("gw1", "gw2")


def test_duplicate_of_the_address_is_found_before_it_is_taken(pair):
    pair.client.run("ip", "addr", "add", f"{VIP}/24", "dev", "eth0")
    pair.start_witness()
    gw1, _ = pair.gateways
    gw1.write(pair.cluster())
    gw1.boot()
    pair.gateways[1].write(pair.cluster())
    pair.gateways[1].boot()
    eventually(lambda: "answers for the address" in gw1.ask()["addresses"][0]["reason"], "the duplicate to be found")
    assert not gw1.has()
    pair.client.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
    eventually(lambda: gw1.has() or pair.gateways[1].has(), "the address to be taken")


def test_a_duplicate_that_shows_up_while_the_owner_dies_is_found_too(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    pair.client.run("ip", "addr", "add", f"{VIP}/24", "dev", "eth0")
    gw1.signal_all(signal.SIGKILL)
    eventually(lambda: "answers for the address" in gw2.ask()["addresses"][0]["reason"], "the duplicate to be found")
    assert not gw2.has()
    eventually(lambda: gw2.has(VIP6), "the other address, of which there is no duplicate")

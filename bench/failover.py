"""Outages that clients see, fault by fault: two gateways with a witness, and the same hosts with keepalived.

Hosts are network namespaces on one switch (tests/netns/lab.py). A client asks the shared address a hundred times a
second, each time on a new connection; the outage is the longest time between two answers. A capture at the switch
counts how often a host spoke for the address after another one had taken over, and it is counted how often one kept
it for four seconds. Run as root.

Then what must move nothing: a minute of 20 % loss, and a minute in which other processes want all processors, for two
clusters at once, at the default and at short times. keepalived is measured at the same time as the gateway with its
default and with equal timers, each on hosts of its own. With 20 rounds everything takes less than twenty minutes.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from bench.machine import facts
from tests.netns.lab import PYTHON, VIP, Gateway, Lab, Seen, Watch, missing
from tests.support.waiting import eventually

BEFORE: Final = 0.2
AFTER: Final = 0.6
"""Seconds of further observation, after the takeover and after the fault."""
TIMEOUT: Final = 8.0
"""Seconds until a takeover must have happened."""
KEPT: Final = 4.0
"""Seconds after which a host that still has the address counts as keeping it."""
FLAPS: Final = 3
FLAP: Final = 0.15
"""Seconds for which a flapping link is down, and then up."""
LOSS: Final = 20
HOGS: Final = 8
"""Busy processes for each processor."""


class Heartbeat:
    """The gateway."""

    def __init__(self, lab: Lab, interval: str, dead_after: str) -> None:
        self.lab = lab
        self.name = f"gateway {interval}/{dead_after}"
        lab.boot(lab.cluster(interval, dead_after))

    def restore(self, gateway: Gateway) -> None:
        """Bring a host back as a backup."""
        if not gateway.pids():
            gateway.boot()
        eventually(lambda: gateway.ask()["addresses"][0]["state"] == "backup", f"{gateway.name} to be back")
        time.sleep(0.3)

    def stop(self, gateway: Gateway) -> None:
        """Tell the owner to end."""
        if gateway.process is not None:
            gateway.process.terminate()


class Keepalived:
    """The same hosts with keepalived; the gateway serves, without a cluster."""

    def __init__(self, lab: Lab, advert: float) -> None:
        self.lab = lab
        self.name = f"keepalived {advert * 1000:.0f}ms"
        self._advert = advert
        # Next to each other: a backup waits for less, the higher its priority is (RFC 9568 section 6.1).
        for priority, gateway in zip((101, 100), lab.gateways, strict=True):
            gateway.write({})
            site = gateway.directory / "site.yaml"
            site.write_text(
                f"node: {gateway.name}\nstate: state\nworkers: 1\ndrain: 1s\nfrontends: [{{listen: '0.0.0.0:80'}}]\n"
                f"routes: [{{respond: {{body: {gateway.name}}}}}]\n"
            )
            (gateway.directory / "keepalived.conf").write_text(self._configuration(priority))
        for gateway in lab.gateways:
            self._boot(gateway)
            time.sleep(1.0)
        eventually(lab.gateways[0].has, "the address", 10.0)

    def _configuration(self, priority: int) -> str:
        return (
            "global_defs {\n vrrp_garp_master_refresh 10\n}\n"
            "vrrp_instance one {\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n version 3\n"
            f" priority {priority}\n advert_int {self._advert:g}\n virtual_ipaddress {{\n  {VIP}/24\n }}\n}}\n"
        )

    def _boot(self, gateway: Gateway) -> None:
        if not gateway.pids():
            gateway.boot()
        where = gateway.directory
        for stale in ("pid", "vrrp_pid", "checkers_pid"):  # of one that was killed: the next would think it runs
            (where / stale).unlink(missing_ok=True)
        pids = [f"--{kind}={where}/{kind}" for kind in ("pid", "vrrp_pid", "checkers_pid")]
        with (where / "keepalived.log").open("ab") as log:
            gateway.start("keepalived", "-n", "-l", "-f", str(where / "keepalived.conf"), *pids, log=log)

    def restore(self, gateway: Gateway) -> None:
        """Bring a host back as a backup; remove the leftovers of a killed process."""
        if not gateway.pids("keepalived"):
            if gateway.has():
                gateway.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
            self._boot(gateway)
        time.sleep(2.5)

    def stop(self, gateway: Gateway) -> None:
        """Tell the owner to end."""
        os.kill(int((gateway.directory / "pid").read_text()), signal.SIGTERM)


System = Heartbeat | Keepalived
Fault = Callable[[System, Gateway], object]


def flap(system: System, host: Gateway) -> None:
    """The owner's link comes and goes."""
    for _ in range(FLAPS):
        system.lab.unplug(host.name)
        time.sleep(FLAP)
        system.lab.plug(host.name)
        time.sleep(FLAP)


def wait_gone(system: System, host: Gateway) -> None:
    """Wait until the stopped processes have ended."""
    name = "keepalived" if isinstance(system, Keepalived) else ""
    eventually(lambda: not host.pids(name), f"{host.name} to end")


FAULTS: Final[dict[str, tuple[Fault, Fault]]] = {
    # how it begins, how it ends
    "kill -9 of all": (lambda _, host: host.signal_all(signal.SIGKILL), lambda *_: None),
    "SIGSTOP of all": (
        lambda _, host: host.signal_all(signal.SIGSTOP),
        lambda _, host: host.signal_all(signal.SIGCONT),
    ),
    "link down": (
        lambda system, host: system.lab.unplug(host.name),
        lambda system, host: system.lab.plug(host.name),
    ),
    "partition": (lambda system, host: system.lab.cut(host.name), lambda system, _: system.lab.heal()),
    "flapping link": (flap, lambda *_: None),
    "stop": (lambda system, host: system.stop(host), wait_gone),
    "evacuate": (lambda _, host: host.ask("drain"), lambda _, host: host.ask("join")),
}


def play(system: System, fault: tuple[Fault, Fault]) -> tuple[Seen, float]:
    """Cause one fault of the owner and wait for recovery; also return how long at most its host kept the address."""
    lab = system.lab
    begin, end = fault
    for host in lab.hosts.values():
        lab.rejoin(host.name)
    owner, other = sorted(lab.gateways, key=lambda gateway: not gateway.has())
    with Watch(lab) as watch:
        # At any time between two beats: after a host's return their times are much the same round by round.
        time.sleep(BEFORE + random.uniform(0, BEFORE))  # noqa: S311
        struck = time.monotonic()
        begin(system, owner)
        eventually(other.has, f"{other.name} to take over", TIMEOUT)
        time.sleep(AFTER)
        end(system, owner)
        time.sleep(AFTER)
        seen = watch.finish()
    while owner.has() and time.monotonic() < struck + KEPT:
        time.sleep(0.05)
    kept = time.monotonic() - struck
    if owner.has() and other.has() and isinstance(system, Keepalived):
        owner.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
    system.restore(owner)
    return seen, kept


def measure(system: System, rounds: int) -> dict[str, dict[str, float]]:
    """Cause each fault `rounds` times."""
    found: dict[str, dict[str, float]] = {}
    for name, fault in FAULTS.items():
        if name == "evacuate" and isinstance(system, Keepalived):
            continue  # it has no such command
        outages, kept, doubles, lost = [], [], 0, 0
        for _ in range(rounds):
            try:
                seen, held = play(system, fault)
            except AssertionError as problem:
                print(f"  {system.name}, {name}: {problem}", file=sys.stderr)  # noqa: T201
                lost += 1
                break
            outages.append(seen.outage)
            doubles += max(0, len(seen.speakers()) - 2)
            kept.append(held)
        if outages:
            found[name] = {
                "median": statistics.median(outages),
                "worst": max(outages),
                "rounds": len(outages),
                "second_owner": doubles,
                "not_taken": lost,
                "kept": sum(held >= KEPT for held in kept),
            }
            _print_row(system.name, name, found[name])
    return found


@contextlib.contextmanager
def loss(labs: Sequence[Lab]) -> Iterator[None]:
    """Frames are lost both ways at every port of gateways and witness."""
    for lab in labs:
        lab.lose(LOSS)
    yield
    for lab in labs:
        lab.lose_nothing()


@contextlib.contextmanager
def starvation(_: Sequence[Lab]) -> Iterator[None]:
    """Other processes load every processor."""
    hogs = [subprocess.Popen([PYTHON, "-c", "while True: pass"]) for _ in range(HOGS * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


NUISANCES: Final = {f"{LOSS} % loss": loss, "processors busy": starvation}


def endure(systems: Sequence[System], seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Faults that must move no address, for all systems: counts of other owners, and of nodes declared dead."""
    labs = [system.lab for system in systems]
    found: dict[str, dict[str, dict[str, float]]] = {system.name: {} for system in systems}
    for name, nuisance in NUISANCES.items():
        with contextlib.ExitStack() as stack:
            watches = [stack.enter_context(Watch(lab)) for lab in labs]
            begin = time.time()
            with nuisance(labs):
                time.sleep(seconds)
            for system, watch in zip(systems, watches, strict=True):
                seen = watch.finish()
                entries = [entry for host in system.lab.gateways for entry in host.ask()["history"]]
                dead = sum(
                    "gw" in entry["about"] and "dead" in entry["what"] for entry in entries if entry["at"] > begin
                )
                row = {
                    "seconds": seconds,
                    "moves": len(seen.speakers()) - 1,
                    "false_alarms": dead,
                    "answers": len(seen.answers),
                    "failures": seen.failures,
                    "worst": seen.outage,
                }
                found[system.name][name] = row
                print(  # noqa: T201
                    f"{system.name:<24}{name:<18}{row['moves']:>9} moves, {dead} false alarms, "
                    f"{row['answers']} answers, {seen.failures} failures, longest gap {seen.outage * 1000:.0f} ms",
                    flush=True,
                )
    return found


def _print_row(system: str, fault: str, row: dict[str, float]) -> None:
    print(  # noqa: T201
        f"{system:<24}{fault:<18}{row['median'] * 1000:>9.0f}{row['worst'] * 1000:>9.0f}"
        f"{row['rounds']:>8}{row['second_owner']:>14}{row['kept']:>7}",
        flush=True,
    )


SYSTEMS: Final[dict[str, Callable[[Lab], System]]] = {
    "default": lambda lab: Heartbeat(lab, "100ms", "400ms"),
    "short": lambda lab: Heartbeat(lab, "20ms", "80ms"),
    "comparable": lambda lab: Heartbeat(lab, "100ms", "360ms"),
    "keepalived": lambda lab: Keepalived(lab, 0.1),
}
TOGETHER: Final = (("short",), ("default", "comparable", "keepalived"))
"""Short times are measured alone: a millisecond of other work counts there."""


@contextlib.contextmanager
def system(name: str) -> Iterator[System]:
    """Hosts with that system, serving."""
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory), witness=name != "keepalived") as lab:
        Path(directory).chmod(0o755)
        yield SYSTEMS[name](lab)


def measure_alone(name: str, rounds: int) -> tuple[str, dict[str, dict[str, float]]]:
    """Measure one system; return its name and results."""
    with system(name) as made:
        return made.name, measure(made, rounds)


def main() -> None:
    """Print the table; write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each fault")
    parser.add_argument("--seconds", type=float, default=60, help="of loss, and of busy processors; 0: neither")
    parser.add_argument("--only", choices=[*SYSTEMS, "nuisances"], action="append")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if problem := missing():
        sys.exit(f"left out: {problem}")
    wanted = options.only or [*SYSTEMS, "nuisances"]
    results: dict[str, object] = {"machine": facts()}
    print(f"{'':<24}{'fault':<18}{'median ms':>9}{'worst':>9}{'rounds':>8}{'second owner':>14}{'kept':>7}")  # noqa: T201
    for names in TOGETHER:
        chosen = [name for name in names if name in wanted]
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            results.update(pool.map(partial(measure_alone, rounds=options.rounds), chosen))
    if "nuisances" in wanted and options.seconds:
        with system("default") as default, system("short") as short:
            results["nuisances"] = endure([default, short], options.seconds)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

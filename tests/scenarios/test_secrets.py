"""Where the secrets of a gateway are: in the memory of its workers, and of no other process."""

import array
import base64
import hashlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.cli import main
from tests.support import hardened
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority, Certificate
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def needles(certificate: Certificate) -> list[bytes]:
    """What gives a key away: a line of its PEM, and its secret number in both byte orders."""
    pem = certificate.key.read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    if isinstance(key, rsa.RSAPrivateKey):
        number = key.private_numbers().p
        secret = number.to_bytes((number.bit_length() + 7) // 8, "big")
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        secret = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        secret = key.private_bytes_raw()
    lines = pem.splitlines()[1:-1]
    # Where neither the head of the file nor the public part is: in the middle of RSA's, and in the first line else.
    return [lines[len(lines) // 2 if len(lines) > 3 else 0][48:64], secret, secret[::-1]]


def present(pid: int) -> Iterator[tuple[int, int]]:
    """Start and length of what a process has in memory, run by run (proc(5): maps, pagemap)."""
    page = os.sysconf("SC_PAGE_SIZE")
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pages:
        for line in maps:
            if re.search(r"\[(vvar|vsyscall)", line):
                continue
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            pages.seek(start // page * 8)
            found = array.array("Q", pages.read((end - start) // page * 8))
            there = bytes(1 if entry >> 62 else 0 for entry in found)  # in memory or in swap
            for run in re.finditer(b"\x01+", there):
                yield start + run.start() * page, (run.end() - run.start()) * page


def in_memory(pid: int, wanted: list[bytes]) -> bool:
    """Whether any of `wanted` is in the memory of a process (proc(5), /proc/PID/mem)."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, length in present(pid):
            try:
                memory.seek(start)
                content = memory.read(length)
            except OSError:  # it is not to be read, or not any more
                continue
            if any(needle in content for needle in wanted):
                return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of other processes")
@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_private_keys_are_in_the_memory_of_workers_alone_and_wiped_when_replaced(
    start_gateway: Starter, start_servers: Servers, authority: Authority, kind: str
) -> None:
    old, new = authority.issue("localhost", kind=kind), authority.issue("localhost", kind=kind)
    description = site(start_servers("app1"), workers=2)
    description["frontends"][0]["tls"] = {"certificates": [old.as_site()]}
    gateway = start_gateway(description)

    def holders(certificate: Certificate) -> set[int]:
        processes = [
            gateway.process.pid,
            *(child.pid for child in psutil.Process(gateway.process.pid).children(recursive=True)),
        ]
        return {pid for pid in processes if in_memory(pid, needles(certificate))}

    def ask() -> None:
        for _ in range(4):
            with RawClient(gateway.port, authority.client_context(), "localhost") as client:
                assert client.get("/bytes/10").body == b"abcdefghij"

    ask()
    assert gateway.control() is not None
    assert holders(old) == set(gateway.workers().values())
    killed = gateway.kill_worker(0)
    eventually(lambda: len(gateway.workers()) == 2 and killed not in gateway.workers().values(), "another worker")
    ask()
    assert holders(old) == set(gateway.workers().values())
    description["frontends"][0]["tls"] = {"certificates": [new.as_site()]}
    gateway.reload(description)
    ask()
    assert holders(new) == set(gateway.workers().values())
    eventually(lambda: not holders(old), "the replaced key to be wiped", 10.0)


RULE = """
import os

with open("/proc/self/comm") as file:
    in_worker = file.read().startswith("gw-worker")
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
if not in_worker and any("gateway-vault" in link for link in links):
    raise RuntimeError("the vault is open")

def route(request):
    return None
"""


def test_the_vault_is_open_in_the_supervisor_alone_and_not_where_rules_are_tried(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "rules.py").write_text(RULE)
    description = site(start_servers("app1"), workers=2)
    description["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    description["routes"].insert(0, {"python": "rules:route"})
    gateway = start_gateway(description)
    assert "reloaded" in gateway.reload()
    assert "reloaded" in gateway.reload()

    def holders() -> list[int]:
        pids = [
            gateway.process.pid,
            *(child.pid for child in psutil.Process(gateway.process.pid).children(recursive=True)),
        ]
        links = {pid: [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()] for pid in pids}
        return [pid for pid, found in links.items() if any("gateway-vault" in str(link) for link in found)]

    eventually(lambda: holders() == [gateway.process.pid], "all others to have closed it")


def test_a_key_that_cannot_be_used_is_refused_at_its_place(
    start_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    good, other = authority.issue("localhost"), authority.issue("localhost")
    description = site(start_servers("app1"))
    description["frontends"][0]["tls"] = {"certificates": [good.as_site()]}
    gateway = start_gateway(description)
    description["frontends"][0]["tls"] = {"certificates": [{"cert": str(good.cert), "key": str(other.key)}]}
    assert "reload refused" in gateway.reload(description)
    gateway.wait_for_log(r"site\.yaml:\d+:\d+: the certificate does not belong to this key")
    checked = CliRunner().invoke(main, ["check", str(gateway.path)])
    assert checked.stderr.partition("\n`gateway run` would")[0] in gateway.log
    with RawClient(gateway.port, authority.client_context(), "localhost") as client:
        assert client.get("/bytes/10").status == 200


def cookie(gateway: GatewayProcess) -> str:
    with RawClient(gateway.port) as client:
        given = client.get("/who").header("set-cookie")
    assert given is not None
    return given.split(";")[0]


def gone(pid: int) -> bool:
    """Whether a process that is not a child of this one has ended."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def served_by(gateway: GatewayProcess, value: str) -> tuple[bytes, bool]:
    """Who serves the owner of a cookie, and whether he gets another one."""
    with RawClient(gateway.port) as client:
        answer = client.get("/who", f"Cookie: {value}")
    return answer.body, answer.header("set-cookie") is not None


def test_cookies_are_signed_with_a_key_that_the_gateway_makes_and_keeps(start_servers: Servers, tmp_path: Path) -> None:
    description = site(start_servers("app1", "app2"), workers=2, affinity={"cookie": "SRV"})
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (GatewayProcess(tmp_path / name, description) for name in ("one", "other"))
    with one:
        given = cookie(one)
        token = base64.urlsafe_b64decode(given.partition("=")[2])[:8]
        for name in ("app1", "app2"):  # a name may be an address: it cannot be found by trying
            assert token != hashlib.blake2b(f"app\0{name}".encode(), digest_size=8).digest()
        server = served_by(one, given)[0]
        for _ in range(6):
            assert served_by(one, given) == (server, False)
        one.reload()
        assert served_by(one, given) == (server, False)
        new = one.upgrade()
        assert one.wait() == 0
        assert served_by(one, given) == (server, False)
        os.kill(new, signal.SIGTERM)
        eventually(lambda: gone(new), "the new one to end")
    with one:
        for _ in range(6):
            assert served_by(one, given) == (server, False)
    key = tmp_path / "one" / "state" / "secret.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    names = [path.name for path in key.parent.iterdir() if not path.name.startswith(("last-good-", "history-"))]
    assert names == ["secret.key"]
    with other:  # the same site file, another key
        assert served_by(other, given)[1]
    key.chmod(0o644)
    command = [*one.command, str(one.path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=hardened.environment())
    assert done.returncode == 1
    assert f"other users can read {key}" in done.stderr.decode()


def test_a_key_that_cannot_be_stored_is_logged_and_lasts_as_long_as_the_gateway(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    description = {
        **site(start_servers("app1", "app2"), affinity={"cookie": "SRV"}),
        "state": str(tmp_path / "file" / "state"),
    }
    gateway = start_gateway(description)
    gateway.wait_for_log(r"cannot keep a key in \S+ \(.*\): sessions of cookies and TLS tickets end with this gateway")
    given = cookie(gateway)
    server = served_by(gateway, given)[0]
    gateway.reload()
    assert served_by(gateway, given) == (server, False)

"""A gateway that cannot start says why, with exit status 1, and disturbs no other."""

import re
import subprocess

import yaml

from tests.support import hardened
from tests.support.backend_server import ROOT
from tests.support.gateway_process import GatewayProcess, site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import free_port


def text(description):
    return yaml.safe_dump(description, sort_keys=False)


def refusal(directory, site_file, *, traceback=False):
    """Return what a gateway says that ends at once."""
    path = directory / "refused.yaml"
    path.write_text(site_file)
    command, env = [*GatewayProcess.command, str(path)], hardened.environment()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert traceback or "Traceback" not in done.stderr
    return done.stderr


def test_port_of_another_program(start_servers, tmp_path):
    (server,) = start_servers("app1")
    description = site([server])
    description["frontends"][0]["listen"] = [f"127.0.0.1:{free_port()}", server.address]
    said = refusal(tmp_path, text(description))
    assert f"cannot listen on {server.address}: another program is using it" in said
    with RawClient(server.port) as client:
        assert client.get().status == 200


def test_port_of_another_gateway(start_servers, start_gateway, tmp_path):
    """The kernel would let both listen and give each a part of the clients."""
    description = site(start_servers("app1"), workers=2)
    gateway = start_gateway(description)
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        said = refusal(tmp_path, text(description))
        load.wait_for(100)
    assert f"cannot listen on 127.0.0.1:{gateway.port}: another program is using it" in said
    assert load.failures == []


def test_site_file_with_mistakes(start_servers, tmp_path):
    good = text(site(start_servers("app1")))
    said = refusal(tmp_path, good.replace("round-robin", "round-robbin").replace("drain:", "drian:"))
    assert re.search(r"refused\.yaml:\d+:\d+: .*did you mean round-robin\?", said)
    assert re.search(r"refused\.yaml:2:1: .*did you mean drain\?", said)


def test_gateway_starts_again_on_the_same_port_at_once(start_servers, start_gateway):
    """Connections of the one before linger in the kernel (TIME_WAIT), and are no reason to wait."""
    gateway = start_gateway(site(start_servers("app1"), workers=2))
    for _ in range(3):
        with RawClient(gateway.port) as client:
            client.get()
        with RawClient(gateway.port) as client:
            client.get("/", "Connection: close")  # closed by the gateway first
            assert client.is_closed()
        assert gateway.terminate() == 0
        gateway.start()


def test_a_gateway_whose_workers_cannot_work_gives_up(start_servers, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import gateway.proxy.worker\n"
        "def prepare(context):\n"
        "    raise SystemExit(3)\n"
        "gateway.proxy.worker.prepare = prepare\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    said = refusal(tmp_path, text(site(start_servers("app1"))), traceback=True)
    assert said.count("worker 0 started") == 3
    assert "the gateway cannot start" in said

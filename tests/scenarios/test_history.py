"""`gateway history`: the versions that ran, what differs between them, and the way back."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import load
from gateway.supervisor import history
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["history", *map(str, arguments)])


def has(gateway: GatewayProcess, *wanted: tuple[int, str, int | None]) -> None:
    """Wait until the history has these versions: number, what put it into force, which earlier one it repeats."""

    def listed() -> bool:
        said = json.loads(command("list", "-g", gateway.path, "--json").stdout)
        found = [(each["number"], each["by"], each["same_as"]) for each in said.get("versions", ())]
        return found == list(wanted)

    eventually(listed, f"a history of {wanted}")


def answer(gateway: GatewayProcess) -> bytes:
    with RawClient(gateway.port) as client:
        return client.get("/greeting").body


def test_versions_are_kept_compared_and_applied_again(start_servers: Any, start_gateway: Any, tmp_path: Path) -> None:
    description = site(start_servers("app1"))
    greeting = {"match": {"path": "/greeting"}, "respond": {"status": 200, "body": "first"}}
    description["routes"] = [greeting, *description["routes"]]
    key = tmp_path / "affinity.key"
    key.write_text("a secret that is nowhere else")
    key.chmod(0o600)
    description["backends"]["app"]["affinity"] = {"cookie": "s", "key_file": str(key)}
    page = tmp_path / "404.html"
    page.write_text("not here, first")
    description["pages"] = {404: str(page)}
    gateway: GatewayProcess = start_gateway(description)
    has(gateway, (1, "start", None))

    page.write_text("not here, second")
    greeting["respond"] = {"status": 200, "body": "second"}
    gateway.reload(description)
    assert answer(gateway) == b"second"
    gateway.reload()  # the same once more
    has(gateway, (1, "start", None), (2, "SIGHUP", None))

    found = command("diff", 1, 2, "-g", gateway.path)
    assert found.exit_code == 0
    assert "body: first" in found.stdout
    assert "body: second" in found.stdout
    assert f"{page}:\n-1: not here, first\n+1: not here, second" in found.stdout
    assert command("diff", 2, "-g", gateway.path).stdout == "no difference\n"
    assert command().stdout == command("list", "-g", gateway.path).stdout
    assert "body: first" in command("show", 1, "-g", gateway.path).stdout

    gateway.path.write_text(gateway.path.read_text() + "# a note\n")
    done = command("apply", 1, "-g", gateway.path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"ROLLED BACK: {gateway.path} is version 1 of ")
    assert answer(gateway) == b"first"
    assert page.read_text() == "not here, first"
    assert Path(f"{gateway.path}.replaced").read_text().endswith("# a note\n")
    assert Path(f"{page}.replaced").read_text() == "not here, second"
    has(gateway, (1, "start", None), (2, "SIGHUP", None), (3, "command", 1))

    for path in (tmp_path / "state").iterdir():
        assert "a secret that is nowhere else" not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600

    key.unlink()
    refused = command("apply", 2, "-g", gateway.path)
    assert refused.exit_code == 1
    assert "version 2 cannot be used now; nothing was changed" in refused.stderr
    assert page.read_text() == "not here, first"
    assert "there is no version 9: the history has 1 to 3" in command("diff", 9, "-g", gateway.path).stderr


def test_a_history_is_bounded_and_can_be_read_without_a_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST", 3)
    path = tmp_path / "site.yaml"
    for number in range(1, 6):
        path.write_text(
            "state: state\nfrontends: [{name: web, listen: '127.0.0.1:1'}]\n"
            f"routes: [{{respond: {{status: 200, body: '{number}'}}}}]\n"
        )
        history.record(load(path), "start")
    assert [version.number for version in history.find(path)] == [3, 4, 5]
    shown = command("list", "-g", path)
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 3
    done = command("apply", 3, "-g", path)
    assert (done.exit_code, "no gateway runs with it" in done.stdout) == (0, True)
    assert "body: '3'" in path.read_text()
    monkeypatch.setattr(history, "TOTAL", 1)
    path.write_text(path.read_text() + "# more\n")
    history.record(load(path), "start")
    assert [version.number for version in history.find(path)] == [6]


def test_a_history_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "state: state\nfrontends: [{name: web, listen: '127.0.0.1:1'}]\nroutes: [{respond: {status: 204}}]\n"
    )
    history.record(load(path), "start")
    (file,) = (tmp_path / "state").iterdir()
    file.chmod(0o666)
    done = command("apply", 1, "-g", path)
    assert done.exit_code == 1
    assert "another user can write to" in done.stderr

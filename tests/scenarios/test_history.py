"""`gateway history`: the versions that ran, what differs between them, and the way back."""

import errno
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import load
from gateway.supervisor import history
from gateway.system import regular_file
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port


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
    listed = command("list", "-g", gateway.path).stdout
    assert command().stdout == listed
    assert [line.endswith("  in force") for line in listed.splitlines()] == [False, True]
    status = ["status", str(gateway.path)]
    eventually(lambda: f"{gateway.path}, version 2 since " in CliRunner().invoke(main, status).stdout, "the version")
    assert "reloaded: version 2 of the site file" in gateway.log
    assert "body: first" in command("show", 1, "-g", gateway.path).stdout

    gateway.path.write_text(gateway.path.read_text() + "# a note\n")
    done = command("apply", 1, "-g", gateway.path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"ROLLED BACK: {gateway.path} is version 1 of ")
    assert answer(gateway) == b"first"
    assert page.read_text() == "not here, first"
    assert Path(f"{gateway.path}.replaced").read_text().endswith("# a note\n")
    assert f"{page} is as in version 1 now; what was there is in version 2" in done.stderr
    assert not Path(f"{page}.replaced").exists()
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


def versions_of(path: Path, count: int) -> None:
    """A site file with so many versions, of which it is the last one now."""
    for number in range(1, count + 1):
        path.write_text(
            "state: state\nfrontends: [{name: web, listen: '127.0.0.1:1'}]\n"
            f"routes: [{{respond: {{status: 200, body: '{number}'}}}}]\n"
        )
        history.record(load(path), "start")


def test_no_edit_that_never_ran_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    versions_of(path, 2)
    copies = [Path(f"{path}.replaced"), Path(f"{path}.replaced.2")]
    for edit, copy in zip(("state: state\n# one\n", "state: state\n# two\n"), copies, strict=True):
        path.write_text(edit)
        done = command("apply", 1, "-g", path)
        assert (done.exit_code, f"what was there is {copy}\n" in done.stderr) == (0, True), done.output
        done = command("apply", 2, "-g", path)
        assert f"{path} is as in version 2 now; what was there is in version 1\n" in done.stderr
    path.write_text("state: state\n# one\n")
    assert f"what was there is {copies[0]}\n" in command("apply", 1, "-g", path).stderr
    assert [copy.read_text() for copy in copies] == ["state: state\n# one\n", "state: state\n# two\n"]
    assert sorted(tmp_path.glob("*replaced*")) == copies


def test_files_are_as_before_where_the_gateway_refuses_a_version(
    start_servers: Any, start_gateway: Any, tmp_path: Path
) -> None:
    description = site(start_servers("app1"))
    gateway: GatewayProcess = start_gateway(description)
    has(gateway, (1, "start", None))
    page = tmp_path / "404.html"
    page.write_text("not here, first")
    port = free_port()
    more = {"name": "more", "listen": f"127.0.0.1:{port}"}
    gateway.reload({**description, "frontends": [*description["frontends"], more], "pages": {404: str(page)}})
    gateway.reload(description)
    has(gateway, (1, "start", None), (2, "SIGHUP", None), (3, "SIGHUP", 1))
    before = gateway.path.read_text() + "# a note\n"
    gateway.path.write_text(before)
    page.write_text("not here, second")
    with socket.create_server(("127.0.0.1", port)):
        refused = command("apply", 2, "-g", gateway.path)
    assert refused.exit_code == 1
    assert "the gateway refused it; the files are as before; it keeps version 3:\n" in refused.stderr
    assert "is as in version" not in refused.stderr
    assert (gateway.path.read_text(), page.read_text()) == (before, "not here, second")
    assert not list(tmp_path.glob("*replaced*"))
    assert command("apply", 2, "-g", gateway.path).exit_code == 0


def test_files_are_as_before_where_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, page = tmp_path / "site.yaml", tmp_path / "404.html"
    page.write_text("first")
    path.write_text(
        "state: state\nfrontends: [{name: web, listen: '127.0.0.1:1'}]\nroutes: [{respond: {status: 204}}]\n"
        f"pages: {{404: {page}}}\n"
    )
    history.record(load(path), "start")
    page.unlink()
    path.write_text("state: state\n")
    write = regular_file.update

    def full(place: Path, content: bytes) -> None:
        if place == path:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(place, content)

    monkeypatch.setattr(regular_file, "update", full)
    done = command("apply", 1, "-g", path)
    assert done.exit_code == 1
    assert f"cannot write {path}: no space left on device; the files are as before" in done.stderr
    assert (page.exists(), path.read_text()) == (False, "state: state\n")
    assert not list(tmp_path.glob("*replaced*"))


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

"""A restart with a mistake in the site file: the gateway starts with the last good configuration, and says so."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config.saved import SavedSite
from gateway.supervisor import last_good
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

MISTAKE = "\nbackend: {}\n"
SECRET = b"0123456789abcdef-not-in-the-copy"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_once(gateway: GatewayProcess) -> None:
    """Start and stop, so that there is a copy."""
    with gateway:
        gateway.status()
        eventually(lambda: copy_of(gateway).exists(), "the copy to be kept")
        assert gateway.terminate() == 0


def copy_of(gateway: GatewayProcess) -> Path:
    state = gateway.path.parent / "state"
    return next(state.glob("last-good-*.json"), state / "none")


def body(gateway: GatewayProcess, path: str = "/") -> tuple[int, bytes]:
    with RawClient(gateway.port) as client:
        answer = client.get(path)
        return answer.status, answer.body


def test_a_restart_with_a_mistake_serves_and_says_so(start_servers: Any, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1")))
    run_once(gateway)
    good = gateway.path.read_text()
    assert "LAST GOOD" not in gateway.log
    gateway.path.write_text(good + MISTAKE)
    checked = command("check", gateway.path)
    assert checked.exit_code == 3
    assert "unknown key backend" in checked.stderr
    assert "would start with the last good configuration" in checked.stderr
    with gateway:
        assert body(gateway)[0] == 200
        assert "STARTED WITH THE LAST GOOD CONFIGURATION of " in gateway.log
        assert "unknown key backend" in gateway.log
        gateway.status()
        shown = command("status", gateway.path).stdout
        assert "STARTED WITH THE LAST GOOD CONFIGURATION of " in shown
        assert "unknown key backend" in shown
        assert f"+{len(good.splitlines()) + 2}: backend: {{}}" in shown
        figures = command("status", gateway.path, "--metrics").stdout
        assert "gateway_site_started_with_last_good 1\n" in figures
        assert "gateway_site_last_reload_success 0\n" in figures
        refused = command("reload", gateway.path)
        assert refused.exit_code == 1
        assert "STARTED WITH THE LAST GOOD" in command("status", gateway.path).stdout
        gateway.path.write_text(good)
        assert command("reload", gateway.path).exit_code == 0
        assert "LAST GOOD" not in command("status", gateway.path).stdout
        figures = command("status", gateway.path, "--metrics").stdout
        assert "gateway_site_started_with_last_good 0\n" in figures


def test_only_what_succeeded_is_kept(start_servers: Any, tmp_path: Path) -> None:
    servers = start_servers("app1")
    gateway = GatewayProcess(tmp_path, site(servers, workers=1))
    answered = site(servers)
    answered["frontends"] = gateway.site["frontends"]
    with gateway:
        eventually(lambda: copy_of(gateway).exists(), "the copy to be kept")
        gateway.write({**answered, "routes": [{"respond": {"status": 200, "body": "second"}}]})
        assert command("reload", gateway.path).exit_code == 0
        eventually(lambda: "second" in copy_of(gateway).read_text(), "the copy to follow")
        gateway.path.write_text(gateway.path.read_text().replace("second", "third") + MISTAKE)
        assert command("reload", gateway.path).exit_code == 1
        assert gateway.terminate() == 0
    assert copy_of(gateway).stat().st_mode & 0o777 == 0o600
    assert "third" not in copy_of(gateway).read_text()
    with gateway:
        assert body(gateway) == (200, b"second")


def test_files_and_variables_are_as_they_were_and_secrets_are_not_copied(
    start_servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, rules, key = tmp_path / "error.html", tmp_path / "rules.conf", tmp_path / "cookie.key"
    page.write_text("the page")
    (tmp_path / "map.txt").write_text("one /mapped\n")
    rules.write_text("RewriteEngine on\nRewriteMap words txt:map.txt\nRewriteRule ^/look$ ${words:one} [R]\n")
    key.write_bytes(SECRET)
    key.chmod(0o600)
    monkeypatch.setenv("GREETING", "hello")
    description = site(start_servers("app1"), affinity={"cookie": "s", "key_file": str(key)})
    description["pages"] = {"502": str(page), "503": str(page)}
    description["backends"]["none"] = {"servers": [{"name": "none", "address": f"127.0.0.1:{free_port()}"}]}
    description["routes"] = [
        {"match": {"path": "/greeting"}, "respond": {"status": 200, "body": "${GREETING}"}},
        {"match": {"path": "/missing"}, "backend": "none"},
        {"apache": str(rules)},
        {"backend": "app"},
    ]
    gateway = GatewayProcess(tmp_path, description)
    run_once(gateway)
    kept = copy_of(gateway).read_bytes()
    assert SECRET not in kept
    monkeypatch.delenv("GREETING")
    for path in (page, rules, tmp_path / "map.txt"):
        path.unlink()
    with gateway:
        assert f"{page}: cannot be read" in gateway.log
        assert body(gateway, "/greeting") == (200, b"hello")
        assert body(gateway, "/missing")[1] == b"the page"
        with RawClient(gateway.port) as client:
            location = client.get("/look").header("Location")
            assert location is not None
            assert location.endswith("/mapped")


def test_a_site_file_that_is_gone_and_an_address_that_is_taken(start_servers: Any, tmp_path: Path) -> None:
    """The usual place of the copy is not that of the tests: a file that is gone cannot name it, so it is a link away."""
    servers = start_servers("app1")
    gateway = GatewayProcess(tmp_path, site(servers))
    run_once(gateway)
    with socket.create_server(("127.0.0.1", free_port())) as other:
        text = gateway.path.read_text()
        gateway.path.write_text(text.replace(str(gateway.port), str(other.getsockname()[1])))
        with gateway:
            assert body(gateway)[0] == 200
            assert "STARTED WITH THE LAST GOOD" in gateway.log
    gateway.path.write_text("state: state\n[")
    with gateway:
        assert body(gateway)[0] == 200


@pytest.mark.parametrize("strict", [True, False])
def test_without_a_copy_or_when_told_to_be_strict_it_refuses(
    start_servers: Any, tmp_path: Path, *, strict: bool
) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1")), *["--strict"] * strict)
    run_once(gateway)
    if not strict:
        copy_of(gateway).unlink()
        assert command("check", gateway.path).exit_code == 0
    gateway.path.write_text(gateway.path.read_text() + MISTAKE)
    assert command("check", gateway.path).exit_code == (3 if strict else 1)
    with pytest.raises(AssertionError, match="ended with 1"):
        gateway.start()
    gateway.take_deaths()
    assert "unknown key backend" in gateway.log
    assert ("no copy of it" in gateway.log) is not strict
    assert "LAST GOOD" not in gateway.log


@pytest.mark.parametrize("harm", ["damaged", "open"])
def test_a_copy_that_cannot_be_trusted_is_not_used(start_servers: Any, tmp_path: Path, harm: str) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1")))
    run_once(gateway)
    if harm == "open":
        copy_of(gateway).chmod(0o666)
    else:
        copy_of(gateway).write_text(copy_of(gateway).read_text()[:-10])
    gateway.path.write_text(gateway.path.read_text() + MISTAKE)
    with pytest.raises(AssertionError, match="ended with 1"):
        gateway.start()
    gateway.take_deaths()
    assert {"open": "another user can write to", "damaged": "is damaged, or of another version"}[harm] in gateway.log


def test_a_state_directory_that_cannot_be_written_is_named(start_servers: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with GatewayProcess(
        tmp_path, {**site(start_servers("app1")), "state": str(tmp_path / "file" / "state")}
    ) as gateway:
        gateway.wait_for_log("cannot keep the last good configuration in .*file/state: ")
        assert body(gateway)[0] == 200


def test_the_service_manager_is_told(start_servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1")))
    run_once(gateway)
    gateway.path.write_text(gateway.path.read_text() + MISTAKE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with gateway:
            ready, status = manager.recv(4000).decode().split("\n")
        assert ready == "READY=1"
        assert status.startswith("STATUS=STARTED WITH THE LAST GOOD CONFIGURATION of ")
        assert "unknown key backend" in status


def test_lines_that_changed_are_named_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    before = "".join(f"line {i}\n" for i in range(1, 20))
    path.write_text(before.replace("line 5\n", "line five\n").replace("line 12\n", ""))
    source = SavedSite(before, {tmp_path / "gone": b"x"})
    shown = last_good.changes(source, path).splitlines()
    assert shown[:4] == [f"{path}:", "-5: line 5", "+5: line five", "-12: line 12"]
    assert shown[4] == f"{tmp_path / 'gone'}: cannot be read: no such file or directory"
    path.write_text(before)
    assert last_good.changes(SavedSite(before, {}), path) == ""


def test_a_difference_too_large_to_show_is_named(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("\n".join(f"new {i}" for i in range(5000)))
    assert last_good.changes(SavedSite("\n".join(f"old {i}" for i in range(5000)), {}), path) == (f"{path}: changed")
    path.write_text("\n".join(f"new {i:0100d}" for i in range(900)))
    shown = last_good.changes(SavedSite("\n".join(f"old {i}" for i in range(900)), {}), path)
    assert len(shown) <= last_good.SHOWN + 2
    assert shown.endswith("\n…")
    assert os.linesep not in shown.splitlines()[0]

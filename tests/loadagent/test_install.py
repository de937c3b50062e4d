import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loadagent import install
from loadagent.cli import main
from loadagent.config import Loc, load
from loadagent.install import CannotInstall, File, Target, files, unit

ROOT = Path(__file__).parents[2]
PROGRAM = Path("/opt/gateway/bin/loadagent")
KEY = b"0123456789abcdef\n"
OPTIONS: dict[Loc, object] = {
    ("server",): "app1",
    ("gateways",): ["192.168.7.1:8201"],
    ("key_file",): "given.key",
    ("metrics", "cpu"): 0.9,
}


def runs_nothing(what: object) -> None:
    pytest.fail(f"{what} on an image")


def by_name(wanted: Sequence[File]) -> dict[str, File]:
    return {file.path.name: file for file in wanted}


def test_the_unit_is_the_one_that_is_shown() -> None:
    shown = (ROOT / "conf" / "loadagent.service").read_text()
    assert shown[shown.index("[Unit]") :] == unit(Path("/usr/local/bin/loadagent"))


@pytest.mark.parametrize("place", ["/home/me/venv", "/root/venv", "/tmp/x", "/opt/a b", "/opt/100%"])
def test_programs_that_a_service_could_not_run(place: str) -> None:
    with pytest.raises(CannotInstall):
        unit(Path(place, "loadagent"))


def test_the_agent_file_says_what_the_options_said(tmp_path: Path) -> None:
    target = Target(tmp_path, PROGRAM)
    said = list(install.install(target, files(target, OPTIONS, KEY, replace=False), runs_nothing, runs_nothing))
    config = load(tmp_path / "etc/gateway/agent.yaml", {})
    assert (config.server, config.interval, config.metrics.limits) == ("app1", 0.5, {"cpu": 0.9})
    assert [str(gateway) for gateway in config.gateways] == ["192.168.7.1:8201"]
    assert config.key_file is not None
    assert config.key_file.read_bytes() == KEY
    assert stat.S_IMODE(config.key_file.stat().st_mode) == 0o400
    unit_file = tmp_path / "etc/systemd/system/loadagent.service"
    assert f"ExecStart={PROGRAM} run /etc/gateway/agent.yaml\n" in unit_file.read_text()
    assert stat.S_IMODE(unit_file.stat().st_mode) == 0o644
    assert len(said) == 4
    assert not list(tmp_path.rglob(".*"))  # nothing half-written


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    target = Target(tmp_path, PROGRAM)
    with pytest.raises(CannotInstall, match="nothing to do"):
        files(target, {}, None, replace=False)
    agent_file = tmp_path / "etc/gateway/agent.yaml"
    agent_file.parent.mkdir(parents=True)
    agent_file.write_text("listen: '127.0.0.1:8081'\n")
    with pytest.raises(CannotInstall, match=r"agent\.yaml exists"):
        files(target, OPTIONS, KEY, replace=False)
    assert by_name(files(target, {}, None, replace=False)).keys() == {"loadagent.service"}
    wanted = by_name(files(target, OPTIONS, KEY, replace=True))
    assert wanted.keys() == {"agent.key", "agent.yaml", "loadagent.service"}
    assert agent_file.read_text() == "listen: '127.0.0.1:8081'\n"


@pytest.mark.parametrize("known", [True, False])
def test_on_this_machine_the_user_is_made_and_owns_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """The machine is a directory here, and its programs are a list."""
    monkeypatch.setattr(Target, "live", True)
    ran: list[Sequence[str]] = []

    def users(name: str) -> object:
        assert name == "loadagent"
        if not known:
            raise KeyError(name)
        return name

    target = Target(tmp_path, PROGRAM)
    list(install.install(target, files(target, OPTIONS, KEY, replace=False), ran.append, users))
    assert (ran[0][0] == "useradd") is not known
    assert ["chown", "loadagent:", str(tmp_path / "etc/gateway/agent.key")] in ran
    systemd = Path("/run/systemd/system").is_dir()
    assert (["systemctl", "restart", "loadagent"] in ran) is systemd


def test_programs_that_fail_are_quoted() -> None:
    with pytest.raises(CannotInstall, match="not found"):
        install.run_program(["no-such-program-here"])
    with pytest.raises(CannotInstall, match="that is why"):
        install.run_program(["sh", "-c", "echo that is why >&2; exit 1"])


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/sh"])

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["install", *map(str, arguments)])

    key = tmp_path / "my.key"
    key.touch(0o600)
    key.write_bytes(KEY)
    image = tmp_path / "image"
    arguments = ("--root", image, "--server", "app1", "--gateways", "192.0.2.1:8201", "--key-file", key)
    bad = command(*arguments, "--interval", "soon")
    assert bad.exit_code == 1
    assert "expected a duration" in bad.stderr
    assert not image.exists()  # nothing half-applied
    done = command(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "to do in the image" in done.stdout
    assert load(image / "etc/gateway/agent.yaml", {}).server == "app1"
    again = command(*arguments)
    assert again.exit_code == 1
    assert "--replace" in again.stderr
    assert command("--root", image).exit_code == 0
    assert command("--root", image, "--interval", "1s", "--replace").exit_code == 2

from pathlib import Path

import pytest

from loadagent.config import AgentConfig, ConfigError, Endpoint, load
from loadagent.report import State

REFERENCE = Path(__file__).parents[2] / "conf" / "agent.yaml"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "agent.key"
    path.write_bytes(b"0123456789abcdef\n")
    path.chmod(0o600)
    return path


def problems(path: Path | None, options: dict[tuple[str | int, ...], object] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, options or {})
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("key")
def test_the_reference_file_loads_and_names_every_key(tmp_path: Path) -> None:
    path = write(tmp_path, REFERENCE.read_text().replace("# backend:", "backend:"))
    config = load(path, {})
    assert config.model_fields_set == set(AgentConfig.model_fields)
    assert config.metrics.model_fields_set == set(type(config.metrics).model_fields)
    assert config.gateways == (Endpoint("192.168.7.1", 8201), Endpoint("192.168.7.2", 8201))
    assert config.key_file == tmp_path / "agent.key"
    assert config.interval == 0.5
    assert config.state is State.READY
    assert config.metrics.limits == {
        "cpu": 1.0, "run_queue": 2.0, "memory": 0.95, "network": 1e9, "command": 500.0, "url": 100.0
    }  # fmt: skip


def test_without_anything_the_defaults_hold() -> None:
    config = load(None, {})
    assert config.metrics.limits == {"cpu": 1.0, "run_queue": 2.0, "memory": 0.95}
    assert config.gateways == ()
    assert config.server


def test_only_the_metrics_that_are_named_count(tmp_path: Path) -> None:
    assert load(write(tmp_path, "metrics: {memory: 0.5}"), {}).metrics.limits == {"memory": 0.5}


def test_options_win_over_the_file(tmp_path: Path, key: Path) -> None:
    path = write(tmp_path, "server: a\nmetrics: {cpu: 0.5, memory: 0.5}\n")
    options: dict[tuple[str | int, ...], object] = {
        ("server",): "b",
        ("metrics", "cpu"): 0.7,
        ("metrics", "url", "get"): "http://127.0.0.1/x",
        ("metrics", "url", "full"): 3,
        ("key_file",): str(key),
        ("gateways",): ["[::1]:8201"],
    }
    config = load(path, options)
    assert config.server == "b"
    assert config.metrics.limits == {"cpu": 0.7, "memory": 0.5, "url": 3.0}
    assert config.gateways == (Endpoint("::1", 8201),)
    assert str(config.gateways[0]) == "[::1]:8201"


def test_every_problem_is_told_at_once_where_it_is(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
server: app 1
gatways: ["a:1"]
gateways: ["192.0.2.1:8201", "192.0.2.2"]
interval: 5
metrics:
  cpu: yes
  netwrk: {}
  run_queue: -1
  network: {interface: eth0, bits: 1GB}
  url: {get: "ftp:/x"}
  command: 3
state: redy
interval: 1s
""",
    )
    assert problems(path, {("metrics", "memory"): 1.5}) == [
        "--memory: expected a share above 0 and up to 1.0",
        "1:9: expected a name of up to 64 letters, digits and . _ : -",
        "2:1: unknown key gatways (did you mean gateways?)",
        '3:30: expected an address and a port such as "192.0.2.1:8201" or "[2001:db8::1]:8201"',
        "6:8: expected a number above 0",
        "7:3: unknown key netwrk (did you mean network?)",
        "8:14: expected a number above 0",
        "9:36: expected bits per second such as 100Mbit or 1Gbit",
        "10:8: full is missing",
        '10:14: expected a URL such as "http://127.0.0.1:8080/load"',
        "11:12: expected keys and values in braces or on lines of their own",
        "12:8: expected ready, drain or maintenance (did you mean ready?)",
        "13:1: interval is given twice",
    ]


@pytest.mark.parametrize("value", ["5", "5 days", "10ms", "2h", "-1s", "1e1s", "[]"])
def test_an_interval_that_makes_no_sense(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"interval: {value}")
    assert problems(path) == ["1:11: expected a duration between 100ms and 1h, such as 500ms or 5s"]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("a: [", "1:5: expected the node content, but found '<stream end>'"),
        ("- a", "1:1: expected keys and values such as `server: app1`"),
        ("metrics: &m {cpu: 1.0}\nother: *m", "1:10: aliases are not allowed in an agent file"),
        ("a: *a", "1:4: found undefined alias 'a'"),
        ("server: 2001-99-99", " not YAML: month must be in 1..12"),
        ("a: " + "[" * 5000, " not YAML: maximum recursion depth exceeded"),
        ("server: a" + " " * 70_000, " longer than 65536 bytes"),
    ],
)
def test_what_is_no_agent_file(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(complaint)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "agent.yaml") == [" cannot be read: No such file or directory"]


def test_reports_need_a_key(tmp_path: Path) -> None:
    path = write(tmp_path, 'gateways: "192.0.2.1:8201"')
    assert problems(path) == ["1:11: reports to gateways are signed: key_file is missing"]


def test_a_key_file_must_be_there_private_and_long_enough(tmp_path: Path, key: Path) -> None:
    path = write(tmp_path, "key_file: agent.key")
    key.chmod(0o640)
    assert problems(path) == [f"1:11: other users can read this key; run: chmod 600 {key}"]
    key.chmod(0o600)
    key.write_bytes(b"short\n")
    assert problems(path) == ["1:11: a key needs at least 16 bytes, this one has 5"]
    key.unlink()
    assert problems(path) == [f"1:11: cannot read {key}: No such file or directory"]
    assert problems(None, {("key_file",): str(key)}) == [f"--key-file: cannot read {key}: No such file or directory"]

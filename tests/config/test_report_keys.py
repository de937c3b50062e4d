"""Keys of load reports in a site file."""

from pathlib import Path

import pytest

from tests.config.conftest import Load, Refuse

BASE = """\
frontends: [{listen: "127.0.0.1:80"}]
backends: {app: {servers: [{name: app1, address: "127.0.0.1:1"}, {name: app2, address: "127.0.0.1:2"}]}}
"""
SHARED = (
    "every agent has this key, so any server can speak for all the others: give each server a key of its own with "
    "secret_file (see `gateway key derive`) or keys"
)
BOTH = "app1 has this key, too: each can speak for both"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name in ("a.key", "b.key", "c.secret"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(f"{name}, of sixteen bytes or more")


@pytest.mark.parametrize(
    "keys, message",
    [
        ("", "reports are signed: set secret_file, from which each server's key is derived, or keys"),
        (
            "secret_file: c.secret, »key_file: a.key",
            "with secret_file every server has its own key: list servers with other keys in keys",
        ),
        ("keys: {»app3: a.key}", "there is no server app3 (did you mean app2?)"),
        ("keys: {app1: »none.key}", "cannot read"),
    ],
)
def test_mistakes(refuse: Refuse, keys: str, message: str) -> None:
    start = "»" if not keys else ""
    refuse(BASE + f'load_reports: {start}{{listen: "127.0.0.1:8201"{", " if keys else ""}{keys}}}\n', message)


@pytest.mark.parametrize(
    "keys, warnings",
    [
        ("secret_file: c.secret", []),
        ("secret_file: c.secret, keys: {app1: a.key}", []),
        ("keys: {app1: a.key, app2: b.key}", []),
        ("keys: {app1: a.key}, key_file: b.key", []),
        ("key_file: a.key", [SHARED]),
        ("keys: {app1: a.key, app2: a.key}", [BOTH]),
    ],
)
def test_a_key_of_several_servers_is_warned_of(load_text: Load, keys: str, warnings: list[str]) -> None:
    loaded = load_text(BASE + f'load_reports: {{listen: "127.0.0.1:8201", {keys}}}\n')
    assert [problem.message for problem in loaded.warnings] == warnings


def test_servers_found_by_name_may_have_keys(load_text: Load) -> None:
    text = BASE.replace("127.0.0.1:2", "dns:app.example.com:2")
    assert load_text(text + 'load_reports: {listen: "127.0.0.1:8201", keys: {app-7: a.key}}\n').warnings == ()

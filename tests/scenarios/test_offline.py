"""`check`, `test` and `explain` where production's files are not, such as in CI."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main

SITE = {
    "user": "no-such-user-here",
    "access_log": "/no/such/directory/access.log",
    "load_reports": {"listen": "127.0.0.1:8201", "key_file": "keys/agent.key"},
    "frontends": [
        {"listen": "0.0.0.0:443", "tls": {"certificates": [{"cert": "/no/such/cert.pem", "key": "/no/such/key.pem"}]}}
    ],
    "backends": {
        "app": {
            "servers": [{"name": "a", "address": "https://app.invalid:8443"}],
            "tls": {"ca": "/no/such/ca.pem"},
            "affinity": {"cookie": "s", "key_file": "keys/cookie.key"},
        }
    },
    "routes": [
        {"match": {"path": "/old"}, "respond": {"status": 410}},
        {"backend": "app"},
    ],
    "tests": [
        {"request": "GET https://example.com/old", "expect": {"status": 410}},
        {"request": "GET https://example.com/", "expect": {"backend": "app"}},
    ],
}
MISSING = ("agent.key", "cookie.key", "cert.pem", "key.pem", "ca.pem", "/no/such/directory", "no-such-user-here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(SITE, sort_keys=False))
    return path


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_what_is_only_in_production_is_a_note(path: Path) -> None:
    strict = command("check", path)
    assert strict.exit_code == 1
    done = command("check", path, "--offline")
    assert done.exit_code == 0, done.output
    assert ": ok (1 frontend," in done.stdout
    for name in MISSING:
        assert name in strict.stderr
        notes = [line for line in done.stderr.splitlines() if name in line]
        assert notes
        assert all(": note: " in line for line in notes)


def test_the_tests_of_a_site_run(path: Path) -> None:
    assert command("test", path).exit_code == 1
    done = command("test", path, "--offline")
    assert (done.exit_code, done.stdout) == (0, "2 tests passed\n"), done.output
    assert ": note: cannot read " in done.stderr
    path.write_text(path.read_text().replace("status: 410", "status: 404", 1))
    assert "1 of 2 tests failed" in command("test", path, "--offline").stdout


def test_explain_names_routes_by_file_and_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    first = lines.index("- match:") + 1
    second = lines.index("- backend: app") + 1
    done = command("explain", path, "GET", "https://example.com/", "--offline")
    assert done.exit_code == 0, done.output
    assert f"│  {path}:{first} routes[0] does not match" in done.stdout
    assert f"│  {path}:{second} routes[1] matches: backend app" in done.stdout
    found = json.loads(command("explain", path, "GET", "https://example.com/", "--offline", "--json").stdout)
    assert [route["at"] for route in found["routes"]] == [f"{path}:{first}", f"{path}:{second}"]


def test_mistakes_are_mistakes_offline_too(path: Path) -> None:
    path.write_text(path.read_text() + "pages: {503: no-such-page.html}\n")
    done = command("check", path, "--offline")
    assert done.exit_code == 1
    assert "cannot read" in done.stderr
    assert "no-such-page.html" in done.stderr

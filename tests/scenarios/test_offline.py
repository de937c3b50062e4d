"""`check`, `test` and `explain` where production's files are not, such as in CI."""

import datetime as dt
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.certificates import Authority

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


def certificates(path: Path, cert: Path, key: Path) -> Result:
    """What an offline check says of a site with this certificate and key."""
    pair = {"cert": str(cert), "key": str(key)}
    path.write_text(yaml.safe_dump({**SITE, "frontends": [{"listen": "0.0.0.0:443", "tls": {"certificates": [pair]}}]}))
    return command("check", path, "--offline")


def test_a_certificate_is_checked_without_its_key(path: Path, authority: Authority) -> None:
    missing, good = path.parent / "missing.key", authority.issue("a.example.com")
    done = certificates(path, good.cert, missing)
    assert (done.exit_code, done.stderr.count("missing.key")) == (0, 1), done.output
    garbage = path.parent / "garbage.crt"
    garbage.write_text("garbage")
    done = certificates(path, garbage, missing)
    assert done.exit_code == 1
    assert "not a PEM certificate" in done.stderr
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "does not follow the standard" in certificates(path, garbage, missing).stderr
    old = authority.issue("a.example.com", valid=(dt.timedelta(days=-9), dt.timedelta(days=-1)))
    done = certificates(path, old.cert, missing)
    assert (done.exit_code, "the certificate expired on" in done.stderr) == (0, True)


def test_a_key_that_others_can_read_is_checked_too(path: Path, authority: Authority) -> None:
    one, other = authority.issue("a.example.com"), authority.issue("b.example.com")
    one.key.chmod(0o644)
    done = certificates(path, one.cert, one.key)
    assert (done.exit_code, "note: other users can read" in done.stderr) == (0, True)
    assert "the certificate does not belong to this key" in certificates(path, other.cert, one.key).stderr
    one.cert.chmod(0o644)
    done = certificates(path, one.key, one.cert)
    assert done.exit_code == 1
    assert "not a PEM certificate" in done.stderr
    assert "not a PEM private key" in certificates(path, path.parent / "missing.crt", one.cert).stderr


def test_a_shared_key_that_others_can_read_is_checked_too(path: Path) -> None:
    keys = path.parent / "keys"
    keys.mkdir()
    (keys / "agent.key").write_text("short")
    (keys / "agent.key").chmod(0o644)
    assert "the key is too short" in command("check", path, "--offline").stderr


def test_mistakes_are_mistakes_offline_too(path: Path) -> None:
    path.write_text(path.read_text() + "pages: {503: no-such-page.html}\n")
    done = command("check", path, "--offline")
    assert done.exit_code == 1
    assert "cannot read" in done.stderr
    assert "no-such-page.html" in done.stderr

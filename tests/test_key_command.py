"""`gateway key`: files for their owner alone, and the keys of servers."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.load.keys import report_key


def key(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["key", *map(str, arguments)])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "reports.secret"
    path.touch(0o600)
    path.write_text("a secret of the gateways alone\n")
    return path


def test_a_new_key_is_random_and_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert key("new", tmp_path / "a").exit_code == key("new", tmp_path / "b").exit_code == 0
    finally:
        os.umask(before)
    contents = [(tmp_path / name).read_bytes().strip() for name in "ab"]
    assert contents[0] != contents[1]
    assert len(bytes.fromhex(contents[0].decode())) == 32
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_servers_key_is_printed_or_written(secret: Path, tmp_path: Path) -> None:
    expected = report_key(b"a secret of the gateways alone", "app1").decode() + "\n"
    assert key("derive", secret, "app1").output == expected
    assert key("derive", secret, "app1", "--output", tmp_path / "app1.key").output == ""
    assert (tmp_path / "app1.key").read_text() == expected


def test_what_cannot_be_done_is_said(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert f"cannot write {secret}: file exists" in key("new", secret).output
    assert "cannot write" in key("new", tmp_path / "link").output
    assert not (tmp_path / "elsewhere").exists()
    assert "is not a server name" in key("derive", secret, "a b").output
    assert f"cannot read {tmp_path / 'none'}" in key("derive", tmp_path / "none", "app1").output
    secret.chmod(0o644)
    assert "other users can read" in key("derive", secret, "app1").output


def test_a_key_that_signs_a_zone_is_made_once(tmp_path: Path) -> None:
    made = key("dnssec", tmp_path / "zone.key", "Example.com")
    assert made.exit_code == 0
    ds, dnskey = made.output.splitlines()
    assert ds.startswith("example.com. IN DS ")
    assert dnskey.startswith("example.com. IN DNSKEY 257 3 13 ")
    assert stat.S_IMODE((tmp_path / "zone.key").stat().st_mode) == 0o600
    assert key("dnssec", tmp_path / "zone.key", "example.com.").output == made.output
    (tmp_path / "zone.key").chmod(0o644)
    assert "other users can read" in key("dnssec", tmp_path / "zone.key", "example.com").output
    assert "is not a zone" in key("dnssec", tmp_path / "zone.key", "a..b").output
    assert "not a private key" in key("dnssec", _private(tmp_path / "a", "0123456789abcdef"), "example.com").output


def _private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path

"""The directory of certificates and accounts."""

import os
import stat
from pathlib import Path

import pytest

from gateway.acme.state import Account as AtAuthority
from gateway.acme.state import Certificate, Record, State
from gateway.acme.store import NoStore, Store
from gateway.hardening.account import Account

STATE = State(
    {"https://a/dir": AtAuthority("key", "uri", 1.0)}, {"n.example": Certificate("pem", 2.0, "k")}, {"n": Record()}
)


def test_what_is_saved_is_loaded_and_is_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "acme"
    store = Store.open(path, None)
    assert store.load() == State()
    store.save(STATE, State())
    assert Store.open(path, None).load() == STATE
    assert (path / "n.example.pem").read_text() == "pem"
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()}
    assert modes == {"state.json": 0o600, "n.example.pem": 0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_certificate_whose_file_was_removed_comes_back(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "acme", None)
    store.save(STATE, State())
    (tmp_path / "acme" / "n.example.pem").unlink()
    store.save(STATE, STATE)
    assert (tmp_path / "acme" / "n.example.pem").read_text() == "pem"


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    one, two = Store.open(tmp_path / "acme", None), Store.open(tmp_path / "acme", None)
    assert one.lock()
    assert not two.lock()
    one.close()
    assert two.lock()


@pytest.mark.parametrize("text", ["", "{", '{"accounts": []}'])
def test_a_state_that_cannot_be_used_is_put_aside(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(tmp_path / "acme", None)
    (tmp_path / "acme" / "state.json").write_text(text)
    assert store.load() == State()
    assert (tmp_path / "acme" / "state.json.bad").read_text() == text
    assert "state.json.bad" in caplog.text


def test_a_directory_that_others_can_read_or_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(NoStore, match="others may"):
        Store.open(tmp_path / "open", None)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(NoStore, match="cannot keep certificates in"):
        Store.open(tmp_path / "link", None)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "acme", None)
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / "acme" / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        store.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="left out: only root gives files to another account")
def test_an_account_gets_the_directory_but_nothing_that_is_linked_into_it(tmp_path: Path) -> None:
    path, secret = tmp_path / "acme", tmp_path / "of root"
    Store.open(path, None).save(STATE, State())
    secret.write_text("root's")
    os.link(secret, path / "linked")
    store = Store.open(path, Account("someone", 54321, 54321))
    assert {entry.name: entry.stat().st_uid for entry in path.iterdir()} == {
        "state.json": 54321,
        "n.example.pem": 54321,
        "linked": 0,
    }
    assert path.stat().st_uid == 54321
    store.close()

import datetime as dt
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.config import certificate_files
from gateway.config.certificate import Validity
from gateway.config.model import OwnCertificate
from tests.config.conftest import Load, Refuse
from tests.support.certificates import Authority, Certificate

TLS = """\
frontends:
  - listen: "127.0.0.1:443"
    tls: {{certificates: [{{{}}}]}}
backends: {{app: {{servers: ["127.0.0.1:1"]}}}}
"""
DAY = dt.timedelta(days=1)


def put(source: Path, to: Path, *more: Path) -> None:
    """Write the contents of files to a new one that only its owner may read."""
    to.touch(mode=0o600)
    to.write_bytes(b"".join(path.read_bytes() for path in (source, *more)))


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Path:
    """A directory with a certificate in each form that is understood, and other files."""
    directory = tmp_path / "live"
    directory.mkdir()
    one, two, three = (authority.issue(f"{name}.example.com") for name in ("one", "two", "three"))
    put(one.cert, directory / "one.pem", one.key)
    put(two.cert, directory / "two.crt")
    put(two.key, directory / "two.key")
    (directory / "two.ocsp").write_bytes(authority.ocsp(two))
    (directory / "three.example.com").mkdir()
    put(three.cert, directory / "three.example.com" / "fullchain.pem")
    put(three.key, directory / "three.example.com" / "privkey.pem")
    put(three.cert, directory / "three.example.com" / "cert.pem")
    (directory / "README").write_text("not a certificate\n")
    (directory / ".hidden.pem").write_text("not a certificate\n")
    (directory / "empty").mkdir()
    return directory


def names_of(directory: Path) -> list[str]:
    listing = certificate_files.listed(OwnCertificate(directory=directory))
    return [pair.cert.name if pair.cert.parent == directory else pair.cert.parent.name for pair in listing.pairs]


def test_every_certificate_of_a_directory_is_found(live: Path, load_text: Load) -> None:
    assert names_of(live) == ["one.pem", "three.example.com", "two.crt"]
    assert load_text(TLS.format(f"directory: {live}")).warnings == ()
    pairs = certificate_files.listed(OwnCertificate(directory=live)).pairs
    assert [pair.ocsp.name for pair in pairs if pair.ocsp] == ["two.ocsp"]


def test_a_directory_of_one_certificate_as_acme_clients_write_it(live: Path) -> None:
    (pair,) = certificate_files.listed(OwnCertificate(directory=live / "three.example.com")).pairs
    assert (pair.cert.name, pair.key.name) == ("fullchain.pem", "privkey.pem")


def test_directories_that_cannot_be_used(live: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(TLS.format("directory: »none"), "cannot read")
    refuse(TLS.format(f"directory: »{live / 'empty'}"), "there is no certificate in")
    refuse(TLS.format(f"directory: {live}, »cert: a"), "a directory has files of its own: remove cert")
    monkeypatch.setattr(certificate_files, "MOST", 3)
    refuse(TLS.format(f"directory: »{live}"), "has more than 3 files")


def test_a_wrong_file_of_a_directory_is_named(live: Path, refuse: Refuse, authority: Authority) -> None:
    other = authority.issue("other.example.com")
    put(other.key, live / "two.key")
    put(other.cert, live / "four.crt")
    (live / "one.pem").chmod(0o644)
    refuse(
        TLS.format(f"directory: »»»{live}"),
        f"{live}/four.crt: no private key, neither in this file nor in four.key",
        f"other users can read {live}/one.pem; run: chmod 600",
        f"{live}/two.key: the certificate does not belong to this key",
    )


def test_a_key_without_a_certificate_is_a_warning(live: Path, load_text: Load) -> None:
    put(live / "two.key", live / "five.key")
    (warning,) = load_text(TLS.format(f"directory: {live}")).warnings
    assert f"{live}/five.key: there is no certificate for this key" in str(warning)


def test_a_key_with_a_pass_phrase_in_a_directory(live: Path, refuse: Refuse) -> None:
    key = serialization.load_pem_private_key((live / "two.key").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (live / "two.key").write_bytes(locked)
    refuse(TLS.format(f"directory: »{live}"), f"{live}/two.key: the key is encrypted: remove its pass phrase")


# ---------------------------------------------------------------------------------------------------- order and validity


def as_item(pair: Certificate, mark: str = "") -> str:
    return f"cert: {mark}{pair.cert}, key: {pair.key}"


def test_the_certificate_of_the_key_comes_first(tmp_path: Path, refuse: Refuse, authority: Authority) -> None:
    pair = authority.issue("www.example.com")
    chain = tmp_path / "chain.crt"
    put(authority.ca, chain, pair.cert)
    refuse(TLS.format(f"cert: »{chain}, key: {pair.key}"), "the key belongs to certificate 2 of the file: put that one")


def test_each_certificate_follows_the_one_that_it_has_issued(
    tmp_path: Path, load_text: Load, authority: Authority
) -> None:
    pair, other = authority.issue("www.example.com"), authority.issue("other.example.com")
    good, bad = tmp_path / "good.crt", tmp_path / "bad.crt"
    put(pair.cert, good, authority.ca)
    put(pair.cert, bad, other.cert, authority.ca)
    assert load_text(TLS.format(f"cert: {good}, key: {pair.key}")).warnings == ()
    (warning,) = load_text(TLS.format(f"cert: {bad}, key: {pair.key}")).warnings
    assert "its certificate 2 (CN=other.example.com) has not issued the one before it (CN=www.example.com)" in str(
        warning
    )


@pytest.mark.parametrize("valid, text", [
    ((-2 * DAY, -DAY), "the certificate expired on"),
    ((DAY, 2 * DAY), "the certificate is not valid before"),
    ((-80 * DAY, 10 * DAY), "the certificate expires on"),
    ((-60 * DAY, 30 * DAY), ""),
])  # fmt: skip
def test_certificates_that_are_not_valid_are_warnings(
    load_text: Load, authority: Authority, valid: tuple[dt.timedelta, dt.timedelta], text: str
) -> None:
    pair = authority.issue("www.example.com", valid=valid)
    warnings = [str(warning) for warning in load_text(TLS.format(as_item(pair))).warnings]
    assert len(warnings) == bool(text)
    for warning in warnings:
        assert f"site.yaml:3:33: warning: {pair.cert}: {text}" in warning


@pytest.mark.parametrize("days, warned", [(90, 14.0), (47, 9.4), (6, 1.2), (400, 14.0)])
def test_a_warning_begins_fourteen_days_before_the_end_or_a_fifth_of_a_short_life(days: int, warned: float) -> None:
    end = days * 86400
    validity = Validity(0, end)
    assert validity.state(end - warned * 86400 - 1) == "valid"
    assert validity.state(end - warned * 86400 + 1) == "expiring"
    assert validity.state(end) == "expired"
    assert validity.state(-1) == "not_yet_valid"


# ---------------------------------------------------------------------------------------------------------------- stamps


def test_a_stamp_changes_with_every_kind_of_change(live: Path, load_text: Load) -> None:
    site = load_text(TLS.format(f"directory: {live}")).site
    (live / "link.crt").symlink_to(live / "two.crt")
    (live / "link.key").symlink_to(live / "two.key")
    seen = [certificate_files.stamps(site)]

    def differs() -> bool:
        seen.append(certificate_files.stamps(site))
        return seen[-1] != seen[-2]

    assert not differs()
    put(live / "one.pem", live / "new.pem")
    assert differs()
    (live / "one.pem").rename(live / "renamed.pem")
    assert differs()
    (live / "new.pem").unlink()
    assert differs()
    fresh = live / ".fresh"
    put(live / "two.crt", fresh)
    os.replace(fresh, live / "two.crt")  # noqa: PTH105
    assert differs()
    (live / "two.ocsp").write_bytes(b"x")
    assert differs()
    (live / "link.crt").unlink()
    (live / "link.crt").symlink_to(live / "renamed.pem")
    assert differs()
    assert not differs()

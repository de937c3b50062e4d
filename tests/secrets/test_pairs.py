import datetime as dt
import time
from pathlib import Path

import pytest

from gateway.config.model import OwnCertificate
from gateway.secrets.pairs import SHOWN, TOLD, Expiry, Pair, PairReader, at_most
from gateway.secrets.vault import Secrets, Vault
from tests.support.certificates import Authority, Certificate

DAY = dt.timedelta(days=1)


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Path:
    """A directory with three certificates."""
    directory = tmp_path / "live"
    directory.mkdir()
    for number in range(3):
        place(authority.issue(f"{number}.example.com"), directory, str(number))
    return directory


def place(pair: Certificate, directory: Path, stem: str) -> None:
    for source, suffix in ((pair.cert, ".crt"), (pair.key, ".key")):
        (directory / f"{stem}{suffix}").touch(mode=0o600)
        (directory / f"{stem}{suffix}").write_bytes(source.read_bytes())


def read(before: PairReader | None, directory: Path, *, forgiving: bool = True) -> PairReader:
    reader = PairReader(before.pairs if before else {}, before.directories if before else {}, forgiving=forgiving)
    reader.add(0, OwnCertificate(directory=directory))
    return reader


def test_only_what_has_changed_is_read_again(live: Path, authority: Authority) -> None:
    first = read(None, live)
    assert (first.read, len(first.pairs)) == (3, 3)
    again = read(first, live)
    assert (again.read, again.changed) == (0, False)
    place(authority.issue("new.example.com"), live, "1")
    second = read(first, live)
    assert second.read == 1
    assert [second.pairs[key].names[0] for key in second.directories[live]] == [
        "0.example.com",
        "new.example.com",
        "2.example.com",
    ]
    (live / "0.crt").unlink()
    (live / "0.key").unlink()
    third = read(second, live)
    assert (len(third.pairs), third.changed) == (2, True)


def test_a_broken_file_leaves_the_certificate_as_it_was(live: Path) -> None:
    first = read(None, live)
    (live / "1.crt").write_text("broken")
    second = read(first, live)
    assert second.pairs == first.pairs
    assert list(map(str, second.kept)) == [f"{live}/1.crt: not a PEM certificate; the previous one stays in use"]
    assert not second.changed
    assert second.problems == []
    strict = read(first, live, forgiving=False)
    assert strict.problems == [(0, "directory", f"{live}/1.crt: not a PEM certificate")]


def test_a_new_broken_file_is_left_out(live: Path) -> None:
    first = read(None, live)
    (live / "3.pem").touch(mode=0o600)
    second = read(first, live)
    assert second.pairs == first.pairs
    (kept,) = second.kept
    assert (kept.file, kept.why) == (
        f"{live}/3.pem",
        "no private key, neither in this file nor in 3.key; it is left out",
    )
    assert not second.changed


def test_a_directory_that_cannot_be_read_leaves_all_as_it_was(live: Path) -> None:
    first = read(None, live)
    live.rename(live.parent / "elsewhere")
    second = read(first, live)
    assert (second.pairs, second.directories, second.problems) == (first.pairs, first.directories, [])
    assert "cannot read" in second.kept[0].why
    assert not second.changed
    assert read(None, live).problems[0][:2] == (0, "directory")


def test_what_goes_through_a_vault_needs_not_be_read_again(live: Path) -> None:
    first = read(None, live)
    vault = Vault.create()
    vault.fill(Secrets(b"own", first.pairs, first.directories))
    with vault.open() as secrets:
        assert secrets.directories == first.directories
        assert secrets.pairs == first.pairs
        reader = PairReader(secrets.pairs or {}, secrets.directories)
        reader.add(0, OwnCertificate(directory=live))
        assert reader.read == 0
        assert [pair.names for pair in secrets.pairs_of(OwnCertificate(directory=live))] == [
            (f"{number}.example.com",) for number in range(3)
        ]
    vault.close()


def test_those_that_are_not_valid_yet_come_first_then_those_that_expire_first() -> None:
    now = int(time.time())
    times = {"late": (now - 9, now + 99), "soon": (now - 9, now + 9), "future": (now + 50, now + 500)}
    reader = PairReader({}, {})
    for name, (begin, end) in times.items():
        reader.pairs[Path(name), Path(name)] = Pair(b"", b"", name, not_before=begin, not_after=end)
    assert [name for name, _, _ in reader.expiry().soonest] == ["future", "soon", "late"]
    for number in range(2 * SHOWN):
        reader.pairs[Path(f"{number}"), Path(f"{number}")] = Pair(b"", b"", "", not_before=1, not_after=now + 1000)
    assert (reader.expiry().count, len(reader.expiry().soonest)) == (2 * SHOWN + 3, SHOWN)


def test_warnings_and_their_number() -> None:
    expiry = Expiry(2, (("a.crt", 0, 100 * 86400), ("b.crt", 0, 1000 * 86400)))
    assert expiry.concerns(0.0) == []
    (text,) = expiry.concerns(90.0 * 86400)
    assert text == "a.crt: the certificate expires on 1970-04-11 00:00:00 UTC: renew it"
    assert at_most(["x"] * (TOLD + 7)) == ["x"] * TOLD + ["and 7 more"]

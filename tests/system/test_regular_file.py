"""Files that root opens: neither a FIFO nor a link that another user has put there."""

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.system import regular_file

NOBODY = pwd.getpwnam("nobody").pw_uid
READERS: list[int] = []
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files to lose")


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory of user nobody, in one of root."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name) / "log"
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)
        yield directory


def content(descriptor: int, path: Path, text: bytes = b"line\n") -> bytes:
    os.write(descriptor, text)
    os.close(descriptor)
    return path.read_bytes()


def test_a_log_is_made_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    before = os.umask(0)
    try:
        assert content(regular_file.append(path, 0o640), path) == b"line\n"
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    descriptor = regular_file.append(path, 0o640)
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert os.get_blocking(descriptor)
    assert not os.get_inheritable(descriptor)
    assert content(descriptor, path) == b"line\nline\n"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def read_fifo(path: Path) -> None:
    """One that would be opened at once, as a process reads from it."""
    os.mkfifo(path)
    READERS.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


def link(path: Path) -> None:
    (path.parent / "victim").touch()
    path.symlink_to("victim")


def dangling(path: Path) -> None:
    path.symlink_to("victim")


@pytest.mark.parametrize("make", [fifo, read_fifo, directory, device, link, dangling])
@pytest.mark.timeout(10)
def test_what_is_not_a_regular_file_is_not_written(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "access.log"
    make(path)
    with pytest.raises(OSError, match=r"it is (not a regular file|a symbolic link: name the file itself|a directory)"):
        regular_file.append(path, 0o640)
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_bytes() == b""


@pytest.mark.parametrize("make", [fifo, read_fifo, directory])
@pytest.mark.timeout(10)
def test_what_is_not_a_regular_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "site.yaml"
    make(path)
    with pytest.raises(OSError, match=r"it is (not a regular file|a directory)"):
        regular_file.read(path, 10)


def test_a_file_is_read_up_to_a_limit_and_through_links(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"0123456789")
    (tmp_path / "live").symlink_to("key")
    found, status = regular_file.read(tmp_path / "live", 4)
    assert (found, status.st_size) == (b"0123", 10)


def test_links_that_root_has_made_are_followed_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "disk" / "log").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "disk")
    (tmp_path / "relative").symlink_to("absolute/log")
    path = tmp_path / "relative" / ".." / "log" / "access.log"
    os.close(regular_file.append(path, 0o640))
    assert (tmp_path / "disk" / "log" / "access.log").exists()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="too many symbolic links"):
        regular_file.append(tmp_path / "loop" / "access.log", 0o640)


@as_root
def test_links_that_others_could_make_are_not(theirs: Path) -> None:
    victim = theirs.parent / "victim"
    victim.mkdir()
    (theirs / "below").symlink_to(victim)
    for name in ("access.log", "new.log"):
        with pytest.raises(OSError, match="below is a symbolic link in a directory that others may write to"):
            regular_file.append(theirs / "below" / name, 0o640)
    with pytest.raises(OSError, match="others may write to"):
        regular_file.replace(theirs / "below" / "gateway.pid", b"1", 0o644)
    assert list(victim.iterdir()) == []
    (theirs / "real").mkdir()
    os.close(regular_file.append(theirs / "real" / "access.log", 0o640))


@as_root
def test_a_second_name_that_others_could_give_is_refused(theirs: Path) -> None:
    victim = theirs.parent / "victim"
    victim.write_text("root's\n")
    os.link(victim, theirs / "access.log")
    with pytest.raises(OSError, match="it has a second name"):
        regular_file.append(theirs / "access.log", 0o640)
    os.link(victim, theirs.parent / "backup")
    os.close(regular_file.append(victim, 0o640))
    assert victim.read_text() == "root's\n"


def test_a_file_is_replaced_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.pid"
    victim = tmp_path / "victim"
    victim.write_text("kept")
    path.symlink_to(victim)
    regular_file.replace(path, b"7\n", 0o644)
    assert (path.read_text(), path.is_symlink(), victim.read_text()) == ("7\n", False, "kept")
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        regular_file.replace(path, b"7\n", 0o644)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["gateway.pid", "victim"]


def test_the_name_of_the_new_file_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could would wait for it with a link."""
    names: list[str] = []
    rename = os.rename

    def note(source: str, target: str, **more: int) -> None:
        names.append(source)
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", note)
    for _ in range(2):
        regular_file.replace(tmp_path / "gateway.pid", b"7", 0o644)
    assert len(set(names)) == 2
    assert str(os.getpid()) not in names[0]

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway import state


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    assert state.find(directory) is None
    key = state.keep(directory)
    assert len(key) == state.KEY_BYTES
    assert state.keep(directory) == state.find(directory) == key
    assert state.keep(tmp_path / "other") != key


def test_gateways_that_start_at_once_take_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: state.keep(tmp_path), range(64)))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == [state.NAME]


def test_a_key_that_others_could_have_made_or_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / state.NAME
    state.keep(tmp_path)
    path.chmod(0o640)
    with pytest.raises(state.BadKey, match="others can read"):
        state.keep(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(state.BadKey, match="does not have 32 bytes"):
        state.keep(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(state.BadKey, match="is not a file"):
        state.keep(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        state.keep(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    state.keep(tmp_path)
    os.chown(tmp_path / state.NAME, 65534, -1)
    with pytest.raises(state.BadKey, match="belongs to user 65534"):
        state.keep(tmp_path)

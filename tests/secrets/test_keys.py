import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.secrets import keys


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    assert keys.find(directory) is None
    key = keys.keep(directory)
    assert len(key) == keys.KEY_BYTES
    assert keys.keep(directory) == keys.find(directory) == key
    assert keys.keep(tmp_path / "other") != key


def test_gateways_that_start_at_once_take_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        kept = set(threads.map(lambda _: keys.keep(tmp_path), range(64)))
    assert len(kept) == 1
    assert [path.name for path in tmp_path.iterdir()] == [keys.NAME]


def test_a_key_that_others_could_have_made_or_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / keys.NAME
    keys.keep(tmp_path)
    path.chmod(0o640)
    with pytest.raises(keys.BadKey, match="other users can read"):
        keys.keep(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(keys.BadKey, match="does not have 32 bytes"):
        keys.keep(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(keys.BadKey, match="is not a file"):
        keys.keep(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        keys.keep(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    keys.keep(tmp_path)
    os.chown(tmp_path / keys.NAME, 65534, -1)
    with pytest.raises(keys.BadKey, match="belongs to user 65534"):
        keys.keep(tmp_path)

"""SDBM files: as Apache's httxt2dbm writes them, and any other bytes."""

import subprocess
from pathlib import Path

import pytest

from gateway.config import sdbm
from tests.support.programs import needs


@needs("httxt2dbm")
def test_entries_of_many_pages(tmp_path: Path) -> None:
    wanted = {f"key{i}": f"/value/number/{i}?with=some-more-text" for i in range(3000)}
    (tmp_path / "map.txt").write_text("".join(f"{key} {value}\n" for key, value in wanted.items()))
    command: list[str | Path] = ["httxt2dbm", "-f", "SDBM", "-i", tmp_path / "map.txt", "-o", tmp_path / "map"]
    subprocess.run(command, check=True, timeout=20, stdout=subprocess.DEVNULL)
    content = (tmp_path / "map.pag").read_bytes()
    assert {key.decode(): value.decode() for key, value in sdbm.pairs(content)} == wanted


@pytest.mark.parametrize("content", [
    b"x", b"\1\0" + bytes(1022), b"\xff\xff" + bytes(1022), b"\2\0\0\4\1\4" + bytes(1018), b"\2\0\1\0\1\0" + bytes(1018),
])  # fmt: skip
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="SDBM file"):
        list(sdbm.pairs(content))


def test_an_empty_page_has_no_entries() -> None:
    assert list(sdbm.pairs(bytes(sdbm.PAGE))) == []

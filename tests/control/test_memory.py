"""How much memory is in use, and when that is too much."""

from pathlib import Path

import pytest

from gateway.control.memory import MemoryFiles, is_short


def machine(root: Path, total: int, available: int, group: str = "/") -> None:
    for place in ("proc/self", "sys/fs/cgroup"):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal:       {total} kB\nMemFree:          10 kB\nMemAvailable:   {available} kB\n"
    )
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")


def control_group(root: Path, name: str, most: str, current: int, inactive: int) -> None:
    place = root / "sys/fs/cgroup" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{most}\n")
    (place / "memory.current").write_text(f"{current}\n")
    (place / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 7\n")


def used(root: Path) -> tuple[float, str] | None:
    files = MemoryFiles(root)
    try:
        use = files.use()
        return None if use is None else (round(use.share, 6), use.of)
    finally:
        files.close()


def test_a_machine(tmp_path: Path) -> None:
    machine(tmp_path, 1000, 400)
    assert used(tmp_path) == (0.6, "the machine")


def test_the_group_with_the_least_left_counts(tmp_path: Path) -> None:
    machine(tmp_path, 1000, 400, "/a.slice/gateway.service")
    control_group(tmp_path, "a.slice/gateway.service", "max", 900, 0)
    control_group(tmp_path, "a.slice", "1000", 950, 150)
    assert used(tmp_path) == (0.8, "control group /a.slice")
    control_group(tmp_path, "a.slice/gateway.service", "1000", 900, 0)
    assert used(tmp_path) == (0.9, "control group /a.slice/gateway.service")


def test_files_that_are_not_there_or_say_nothing(tmp_path: Path) -> None:
    assert used(tmp_path) is None
    machine(tmp_path, 1000, 400, "/b")
    control_group(tmp_path, "b", "many", 1, 1)
    assert used(tmp_path) == (0.6, "the machine")


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    machine(tmp_path, 1000, 400, "/b")
    control_group(tmp_path, "b", "10", 1, 1)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max")  # of the root: without the other files
    before = len([*Path("/proc/self/fd").iterdir()])
    used(tmp_path)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize(
    "share, before, short",
    [(0.96, False, True), (0.95, False, False), (0.94, True, True), (0.92, True, False), (0.94, False, False)],
)
def test_it_does_not_change_to_and_fro(share: float, before: bool, short: bool) -> None:  # noqa: FBT001
    assert is_short(share, 0.95, before=before) == short
    assert not is_short(share, None, before=before)

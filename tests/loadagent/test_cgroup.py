"""The limits of a container, in files of our own."""

from pathlib import Path

import pytest

from loadagent.cgroup import Quota, groups, memory_share
from loadagent.sensors import Cpu, Memory

MIB = 1024 * 1024


def group(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return group(tmp_path / "cgroup", cgroup_controllers="cpu memory\n")


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_own_group_and_all_above_it_count(root: Path, tmp_path: Path) -> None:
    inner = group(root / "system.slice" / "app.service")
    assert groups(root, own(tmp_path, "0::/system.slice/app.service\n")) == [inner, inner.parent, root]
    assert groups(root, own(tmp_path, "0::/\n")) == [root]
    assert groups(root, own(tmp_path, "0::/only/true/outside\n")) == [root]


def test_without_version_2_there_is_nothing(root: Path, tmp_path: Path) -> None:
    assert groups(root, own(tmp_path, "12:cpu:/docker/1\n")) == []
    assert groups(root, tmp_path / "none") == []
    (root / "cgroup.controllers").unlink()
    assert groups(root, own(tmp_path, "0::/\n")) == []


def test_a_container_at_its_quota_is_full_although_the_host_idles(root: Path) -> None:
    clock = Clock()
    inner = group(root / "app", cpu_max="50000 100000\n", cpu_stat="usage_usec 1000000\nuser_usec 5\n")
    quota = Quota([inner, root], clock)
    cpu = Cpu(lambda: {"idle": clock.now, "user": 0.0}, quota)
    clock.now += 2.0
    (inner / "cpu.stat").write_text("usage_usec 2000000\n")  # one second in two, and it may have half a processor
    assert cpu.read() == pytest.approx(1.0)
    assert cpu.read() == pytest.approx(1.0)  # no time has passed
    clock.now += 2.0
    (inner / "cpu.stat").write_text("usage_usec 2250000\n")
    assert cpu.read() == pytest.approx(0.25)


def test_the_tightest_quota_counts(root: Path) -> None:
    clock = Clock()
    outer = group(root / "a", cpu_max="400000 100000\n", cpu_stat="usage_usec 0\n")
    inner = group(outer / "b", cpu_max="max 100000\n", cpu_stat="usage_usec 0\n")
    quota = Quota([inner, outer], clock)
    clock.now += 1.0
    for place in (inner, outer):
        (place / "cpu.stat").write_text("usage_usec 3000000\n")
    assert quota.read() == pytest.approx(0.75)


@pytest.mark.parametrize("text", ["", "max 100000", "garbage", "0 100000", "5", "-1 100000"])
def test_no_quota_is_no_load(root: Path, text: str) -> None:
    clock = Clock()
    quota = Quota([group(root / "a", cpu_max=text, cpu_stat="usage_usec 0")], clock)
    clock.now += 1.0
    assert quota.read() == 0.0


def test_memory_is_what_cannot_be_had_back(root: Path) -> None:
    inner = group(
        root / "app",
        memory_max=f"{100 * MIB}\n",
        memory_current=f"{95 * MIB}\n",
        memory_stat=f"anon 1\ninactive_file {15 * MIB}\n",
    )
    assert memory_share([inner, root]) == pytest.approx(0.8)
    (inner / "memory.stat").write_text("inactive_file 0\n")
    assert Memory([inner]).read() >= 0.95
    (inner / "memory.max").write_text("max\n")
    assert memory_share([inner, root]) == 0.0

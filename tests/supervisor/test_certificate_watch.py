import pytest

from gateway.config import Site
from gateway.config.file_stamp import Stamps
from gateway.supervisor.certificate_watch import COST, PERIOD, REPEAT, SETTLE, CertificateWatch

SITE = Site.model_validate({
    "frontends": [{"listen": "127.0.0.1:1"}],
    "backends": {"app": {"servers": ["127.0.0.1:2"]}},
})  # fmt: skip
FILE = "/tls/a.crt"


class Disk:
    """Files whose stamps a test sets, and a clock that moves when they are looked at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = 0
        self.cost = 0.0
        self.stamps: dict[str, tuple[int, ...]] = {FILE: (1,)}

    def look(self, site: Site) -> Stamps:
        assert site is SITE
        self.looks += 1
        self.now += self.cost
        return dict(self.stamps)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def changed(disk: Disk, watch: CertificateWatch, used: Stamps) -> bool:
    """Whether it says so when it next looks."""
    disk.now = max(disk.now, watch.deadline)
    return watch.changed(disk.now, SITE, used)


def test_a_change_counts_when_the_files_are_left_alone(disk: Disk) -> None:
    watch = CertificateWatch(disk.look, lambda: disk.now)
    used = dict(disk.stamps)
    assert not changed(disk, watch, used)
    for number in (2, 3):  # a file is being written
        disk.stamps[FILE] = (number,)
        began = disk.now
        assert not changed(disk, watch, used)
        assert watch.deadline == disk.now + SETTLE
        assert disk.now - began <= PERIOD
    assert changed(disk, watch, used)
    assert not changed(disk, watch, dict(disk.stamps))


def test_a_change_that_is_undone_does_not_count(disk: Disk) -> None:
    watch = CertificateWatch(disk.look, lambda: disk.now)
    used = dict(disk.stamps)
    disk.stamps = {}
    assert not changed(disk, watch, used)
    disk.stamps = dict(used)
    assert not changed(disk, watch, used)
    assert not changed(disk, watch, used)


def test_looking_takes_a_hundredth_of_the_time_at_most(disk: Disk) -> None:
    disk.cost = 0.3
    watch = CertificateWatch(disk.look, lambda: disk.now)
    assert not changed(disk, watch, dict(disk.stamps))
    assert watch.deadline == pytest.approx(100.0 + COST * disk.cost)


def test_between_looks_nothing_is_read_and_without_certificates_never(disk: Disk) -> None:
    watch = CertificateWatch(disk.look, lambda: disk.now)
    used = dict(disk.stamps)
    assert not changed(disk, watch, used)
    assert disk.looks == 1
    assert not watch.changed(disk.now + PERIOD / 2, SITE, used)
    assert disk.looks == 1
    watch.restart()
    assert not changed(disk, watch, {})
    assert disk.looks == 1
    assert watch.deadline == 100.0 + REPEAT


def test_warnings_are_repeated_every_day(disk: Disk) -> None:
    watch = CertificateWatch(disk.look, lambda: disk.now)
    assert not watch.due(disk.now + REPEAT - 1)
    assert watch.due(disk.now + REPEAT)
    assert not watch.due(disk.now + REPEAT + 1)
    assert watch.due(disk.now + 2 * REPEAT)

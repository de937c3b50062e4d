import pytest

from loadagent.sensors import Cpu, Memory, Network, RunQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_cpu_is_the_busy_share_since_the_last_reading() -> None:
    times = {"user": 10.0, "system": 5.0, "idle": 80.0, "iowait": 5.0, "guest": 9.0}
    cpu = Cpu(lambda: times)
    assert cpu.read() == 0.0
    times |= {"user": 13.0, "idle": 86.0, "iowait": 6.0, "guest": 12.0}
    assert cpu.read() == pytest.approx(0.3)
    assert cpu.read() == pytest.approx(0.3)  # no tick in between: the same again
    times |= {"user": 23.0}
    assert cpu.read() == 1.0


def test_run_queue_is_an_average_per_core_without_the_reader() -> None:
    clock = Clock()
    text = "9.9 9.9 9.9 1/200 4711\n"
    queue = RunQueue(lambda: text, clock, cores=2)
    assert queue.read() == 0.0
    text = "9.9 9.9 9.9 9/200 4711\n"
    clock.now = 5.0
    assert queue.read() == pytest.approx(4.0 * (1 - 0.3679), rel=1e-3)
    clock.now = 60.0
    assert queue.read() == pytest.approx(4.0, rel=1e-3)
    text = "9.9 9.9 9.9 0/200 4711\n"
    clock.now = 200.0
    assert queue.read() == pytest.approx(0.0, abs=1e-6)


def test_network_is_the_busier_direction_in_bits() -> None:
    clock = Clock()
    counters = {"eth0": (1000, 5000)}
    network = Network("eth0", lambda: counters, clock)
    assert network.read() == 0.0
    counters["eth0"], clock.now = (2000, 5500), 2.0
    assert network.read() == 4000.0
    assert network.read() == 4000.0  # at the same moment
    counters["eth0"], clock.now = (0, 0), 3.0  # counters began again
    assert network.read() == 0.0


def test_a_network_that_is_not_there_is_an_error_until_it_is() -> None:
    clock = Clock()
    counters: dict[str, tuple[int, int]] = {}
    network = Network("eth9", lambda: counters, clock)
    with pytest.raises(OSError, match="no network interface 'eth9'"):
        network.read()
    counters["eth9"] = (7, 7)
    assert network.read() == 0.0


def test_the_machine_itself_can_be_read() -> None:
    assert 0.0 <= Cpu().read() <= 1.0
    assert 0.0 < Memory().read() < 1.0
    assert RunQueue().read() >= 0.0
    assert Network("lo").read() == 0.0

import struct
from base64 import b64encode

import pytest

from gateway.load.orca import MAX_BYTES, load


def double(number: int, value: float) -> bytes:
    return bytes([number << 3 | 1]) + struct.pack("<d", value)


def entry(number: int, name: bytes, value: float) -> bytes:
    """An item of a map<string, double>."""
    content = b"\x0a" + bytes([len(name)]) + name + double(2, value)
    return bytes([number << 3 | 2, len(content)]) + content


MESSAGE = double(1, 0.3) + double(2, 0.9) + b"\x18\xac\x02" + entry(5, b"gpu", 0.7) + entry(8, b"x", 1.5)


@pytest.mark.parametrize(
    "value, expected",
    [
        (b"TEXT cpu_utilization=0.3, mem_utilization=0.8,rps_fractional=10", 0.3),
        (b"TEXT cpu_utilization=0.3,application_utilization=1.7,named_metrics.cpu_utilization=9", 1.7),
        (b"TEXT application_utilization=0,cpu_utilization=0.4", 0.4),
        (b"TEXT cpu_utilization=0", 0.0),
        (b'JSON {"cpu_utilization": 0.25, "utilization": {"gpu": 0.9}}', 0.25),
        (b'JSON {"applicationUtilization": 0.5, "cpuUtilization": 0.25}', 0.5),
        (b"BIN " + b64encode(MESSAGE), 0.3),
        (b64encode(MESSAGE + double(9, 0.6)), 0.6),
        (b64encode(MESSAGE).rstrip(b"="), 0.3),
        (b"TEXT cpu_utilization=1e300", 1e6),
    ],
)
def test_load_in_response_headers(value: bytes, expected: float) -> None:
    assert load(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"TEXT",
        b"TEXT mem_utilization=0.5",
        b"TEXT cpu_utilization=lots",
        b"TEXT cpu_utilization=nan",
        b"TEXT cpu_utilization=-1",
        b"TEXT cpu_utilization=\xff",
        b"JSON",
        b"JSON [1]",
        b'JSON {"cpu_utilization": "0.5"}',
        b'JSON {"cpu_utilization": 0.5',
        b"JSON " + b"[" * (MAX_BYTES - 5),
        b"TEXT cpu_utilization=0.5," + b"x" * MAX_BYTES,
        b"BIN !!!",
        b64encode(MESSAGE[:5]),
        b64encode(b"\x0f\x01"),
        b64encode(b"\xff" * 20),
        b64encode(entry(8, b"x", 1.0)),
    ],
)
def test_headers_without_a_load(value: bytes) -> None:
    assert load(value) is None


def test_any_cut_is_survived() -> None:
    for end in range(len(MESSAGE)):
        load(b64encode(MESSAGE[:end]))

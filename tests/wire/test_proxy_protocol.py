"""The PROXY protocol: both versions, at every length, and nothing else."""

import pytest

from gateway.wire.proxy_protocol import SIGNATURE, BadHeader, Header, parse

V4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 10, 0, 0, 1]) + b"\x30\x39\x00\x50"
V6 = SIGNATURE + b"\x21\x21\x00\x24" + bytes.fromhex("20010db8000000000000000000000001") * 2 + b"\x30\x39\x00\x50"

GOOD = {
    b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n": ("192.0.2.1", 12345),
    b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n": ("2001:db8::1", 12345),
    b"PROXY UNKNOWN\r\n": (None, 0),
    b"PROXY UNKNOWN whatever it says 1 2\r\n": (None, 0),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:a00:1 12345 80\r\n": ("192.0.2.1", 12345),
    V4: ("192.0.2.1", 12345),
    SIGNATURE + b"\x21\x21\x00\x24" + (bytes(10) + b"\xff\xff\xc0\x00\x02\x01") * 2 + b"\x30\x39\x00\x50": (
        "192.0.2.1",
        12345,
    ),
    V6: ("2001:db8::1", 12345),
    SIGNATURE + b"\x20\x00\x00\x00": (None, 0),
    SIGNATURE + b"\x21\x00\x00\x03abc": (None, 0),
    SIGNATURE + b"\x21\x11\x00\x10" + V4[16:] + b"\x04\x00\x01x": ("192.0.2.1", 12345),
    SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216): (None, 0),
}


@pytest.mark.parametrize("data, client", GOOD.items(), ids=[repr(data[:30]) for data in GOOD])
def test_reads_a_header_and_nothing_after_it(data, client):
    assert parse(data + b"GET / HTTP/1.1\r\n") == Header(len(data), *client)
    for end in range(1, len(data)):
        assert parse(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n", b"PROXY TCP4 192.0.2.1 10.0.0.1 12345\r\n", b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\n",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 1 80\r\n", b"PROXY TCP4 ::1 ::1 1 80\r\n", b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 80\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 01 80\r\n", b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 80\r\n", b"PROXY " + b"x" * 110,
        b"proxy TCP4 192.0.2.1 10.0.0.1 1 80\r\n", b"PROXY TCP4 192.0.2.1 10.0.0.1 1 80\r \n",
        SIGNATURE + b"\x31\x11\x00\x0c", SIGNATURE + b"\x22\x11\x00\x0c", SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x21\x11\x00\x08" + bytes(8), b"\r\n\r\n\0\r\nQUIX", b"\x16\x03\x01",
    ],
)  # fmt: skip
def test_refuses_anything_else(data):
    with pytest.raises(BadHeader):
        parse(data + b"\0" * 16)

"""The parser of queries: what RFCs allow, and nothing else."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.query import read

QUESTION = b"\3www\7ExAmple\3com\0" + b"\0\1\0\1"


def message(*, flags=0, counts=(1, 0, 0, 0), rest=QUESTION):
    return struct.pack("!6H", 0x1234, flags, *counts) + rest


def opt(options=b"", *, size=1232, ttl=0, name=b"\0"):
    return name + struct.pack("!HHIH", 41, size, ttl, len(options)) + options


def option(code, data):
    return struct.pack("!HH", code, len(data)) + data


def with_opt(options=b"", **more):
    return message(counts=(1, 0, 0, 1), rest=QUESTION + opt(options, **more))


def test_a_query_without_edns():
    code, found = read(message(flags=0x0100))
    assert code == 0
    assert found["id"] == 0x1234
    assert found["name"] == b"\3www\7ExAmple\3com\0"
    assert (found["type"], found["class"], found["edns"]) == (1, 1, False)


def test_edns_with_what_a_resolver_sends():
    options = [
        dns.edns.ECSOption("198.51.100.0", 23),
        dns.edns.CookieOption(b"12345678", b"abcdefgh"),
        dns.edns.NSIDOption(b""),
        dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(30)),
    ]
    query = dns.message.make_query("a.example", "AAAA", use_edns=0, payload=4096, want_dnssec=True, options=options)
    code, found = read(query.to_wire())
    assert code == 0
    assert (found["size"], found["dnssec"], found["nsid"]) == (4096, True, True)
    assert found["cookie"] == b"12345678abcdefgh"
    assert found["subnet"] == (1, 23, bytes([198, 51, 100]) + bytes(13))


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", None),
        (message()[:11], None),
        (message(flags=0x8000), None),  # a response
        (message(flags=0x8000 | 4 << 11), None),
        (message(flags=5 << 11), 4),  # UPDATE
        (message(flags=2 << 11), 4),  # STATUS
        (message(flags=4 << 11), 5),  # NOTIFY
        (message(flags=4 << 11, counts=(0, 0, 0, 0), rest=b""), 1),
        (message(counts=(2, 0, 0, 0), rest=QUESTION * 2), 1),
        (message(counts=(0, 0, 0, 0), rest=b""), 1),
        (message(counts=(1, 1, 0, 0)), 1),
        (message(counts=(1, 0, 1, 0)), 1),
        (message(counts=(1, 0, 0, 1)), 1),
        (message(rest=QUESTION[:-1]), 1),
        (message(rest=QUESTION + b"\0"), 1),  # bytes behind it
        (message(rest=b"\xc0\x0c\0\1\0\1"), 1),  # compression
        (message(rest=b"\x40" + b"a" * 64 + b"\0\0\1\0\1"), 1),  # a label of 64
        (message(rest=(b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"), 1),  # 257 bytes
        (message(rest=b"\3www"), 1),
        (message(rest=b"\0\0\1\0\1"), 0),  # the root
        (message(rest=b"\0\0\xfc\0\1"), 5),  # AXFR
        (message(rest=b"\0\0\x0c\0\3"), 5),  # CHAOS
        (message(rest=b"\0\0\xff\0\1"), 0),  # ANY
        (message(rest=b"\0\0\x29\0\1"), 1),  # OPT as a type
        (message(counts=(1, 0, 1, 0), rest=b"\0\0\xfb\0\1" + bytes(20)), 5),  # IXFR
        (with_opt(), 0),
        (with_opt(ttl=1 << 16), 16),  # version 1
        (with_opt(name=b"\1a\0"), 1),
        (with_opt(b"\0"), 1),
        (with_opt(option(99, b"abc")), 0),
        (with_opt(option(99, b"abc")[:-1]), 1),
        (with_opt(option(8, b"\0\1\x18\0\xc6\x33\x64")), 0),
        (with_opt(option(8, b"\0\1\x18\0\xc6\x33")), 1),  # too short
        (with_opt(option(8, b"\0\1\x18\0\xc6\x33\x64\x00")), 1),  # too long
        (with_opt(option(8, b"\0\1\x18\1\xc6\x33\x64")), 1),  # with a scope
        (with_opt(option(8, b"\0\1\x17\0\xc6\x33\x65")), 1),  # bits beyond the prefix
        (with_opt(option(8, b"\0\1\x21\0\xc6\x33\x64\x00\x00")), 1),  # 33 bits
        (with_opt(option(8, b"\0\3\0\0")), 1),  # of an unknown family
        (with_opt(option(8, b"\0\0\0\0")), 0),
        (with_opt(option(8, b"\0\1\0\0") * 2), 1),
        (with_opt(option(10, bytes(7))), 1),
        (with_opt(option(10, bytes(8))), 0),
        (with_opt(option(10, bytes(9))), 1),
        (with_opt(option(10, bytes(40))), 0),
        (with_opt(option(10, bytes(41))), 1),
        (with_opt(option(10, bytes(8)) * 2), 1),
        (message(counts=(0, 0, 0, 1), rest=opt(option(10, bytes(8)))), 0),  # asks for a cookie only
        (message(counts=(0, 0, 0, 1), rest=opt()), 1),
        (message(counts=(1, 0, 0, 2), rest=QUESTION + opt() + opt()), 1),
        (message(counts=(1, 0, 0, 1), rest=QUESTION + b"\1k\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc"), 9),
        (message(counts=(1, 0, 0, 1), rest=QUESTION + b"\0" + struct.pack("!HHIH", 1, 1, 0, 4) + b"abcd"), 1),
    ],
)  # fmt: skip
def test_each_is_read_as_the_rfcs_say(data, code):
    assert read(data)[0] == code


def test_no_query_that_is_cut_is_one():
    whole = with_opt(option(8, b"\0\1\x18\0\xc6\x33\x64") + option(10, bytes(range(16))))
    assert read(whole)[0] == 0
    for at in range(len(whole)):
        assert read(whole[:at])[0] == (None if at < 12 else 1)


def test_the_longest_name():
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(name) == 255
    assert read(message(rest=name + b"\0\1\0\1"))[1]["name"] == name
    assert read(message(rest=b"\x3e" + b"b" * 62 + name[64:] + b"\0\1\0\1"))[0] == 0
    longer = (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"b" * 62 + b"\0"
    assert read(message(rest=longer + b"\0\1\0\1"))[0] == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_fault(data):
    code, found = read(data)
    if code == 0 and found["name"]:
        parsed = dns.message.from_wire(data)
        assert parsed.question[0].name.to_wire() == found["name"]

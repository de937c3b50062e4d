"""What proxies write about addresses, read as such."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.forwarded import address, elements


@pytest.mark.parametrize("node, found", [
    ("192.0.2.7", "192.0.2.7"), (" 192.0.2.7 ", "192.0.2.7"), ("192.0.2.7:51234", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"),
    ("[2001:DB8::7]", "2001:db8::7"), ("[2001:db8::7]:443", "2001:db8::7"), ('"[2001:db8::7]:443"', "2001:db8::7"),
    ("::ffff:192.0.2.7", "192.0.2.7"), ('"192.0.2.7"', "192.0.2.7"), ("192.0.2.7:_secret", "192.0.2.7"),
    ("unknown", None), ("_hidden", None), ("", None), ("host.example", None), ("192.0.2.7:", "192.0.2.7"), ("192.0.2", None),
    ("[192.0.2.7]", None), ("[2001:db8::7", None), ("[2001:db8::7]443", None), ("192.0.2.7:a b", None), ("fe80::1%eth0", None),
    ('fe80::1%"x', None), ("192.0.2.7, 10.0.0.1", None), ("192.0.2.07", None), ('"', None), ("[]", None),
])  # fmt: skip
def test_addresses(node: str, found: str | None) -> None:
    assert address(node) == found


@pytest.mark.parametrize("text, found", [
    ("for=192.0.2.60;proto=http;by=203.0.113.43", [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}]),
    ('For="[2001:db8:cafe::17]:4711"', [{"for": "[2001:db8:cafe::17]:4711"}]),
    ("for=192.0.2.43, for=198.51.100.17", [{"for": "192.0.2.43"}, {"for": "198.51.100.17"}]),
    ('for="_a,b;c=\\"d";host="x"', [{"for": '_a,b;c="d', "host": "x"}]), ("for=192.0.2.7:80", [{"for": "192.0.2.7:80"}]),
    ("", []), (", ;,", []), ("for=1.2.3.4; proto = https", []), ("evil, for=1.2.3.4", [{"for": "1.2.3.4"}]),
    ("for=6.6.6.6, =x, for=1.2.3.4", [{"for": "1.2.3.4"}]), ('for="6.6.6.6, for=1.2.3.4', []),
])  # fmt: skip
def test_elements(text: str, found: list[dict[str, str]]) -> None:
    assert elements(text) == found


@given(st.text(st.sampled_from('for=proto;,"\\[]:1.2a ')))
def test_whatever_comes_is_read(text: str) -> None:
    for element in elements(text):
        node = address(element.get("for", ""))
        assert node is None or set(node) <= set("0123456789abcdef.:")

"""Who the client is, and how it came: the model of gateway/wire/origin.pyx as a table."""

import pytest

from gateway.wire.origin import Provenance, for_server, seen_of

PEER = b"10.0.0.1"
"""A trusted proxy, like all of 10.0.0.0/8."""


def peer(*, trusted: bool = True, https: bool = False, client_from: bytes = b"") -> Provenance:
    return Provenance(
        PEER, https, b"gw", b"Via: 1.1 gw\r\n", (lambda text: text.startswith("10.")) if trusted else None, client_from
    )


def request(*fields: str) -> bytes:
    return "\r\n".join(("GET / HTTP/1.1", "Host: shop", *fields, "", "")).encode("latin-1")


FOR, PROTO = "X-Forwarded-For: ", "X-Forwarded-Proto: "

CASES = [
    # Nothing is said, or nothing that is an address.
    ([], "", PEER, False), ([FOR], "", PEER, False), ([FOR + "unknown"], "", PEER, False), ([FOR + "_x"], "", PEER, False),
    # The forms of an address.
    ([FOR + "192.0.2.7"], "", b"192.0.2.7", False), ([FOR + "192.0.2.7:51234"], "", b"192.0.2.7", False),
    ([FOR + "[2001:DB8::7]:443"], "", b"2001:db8::7", False), ([FOR + "[2001:db8::7]"], "", b"2001:db8::7", False),
    ([FOR + "::ffff:192.0.2.7"], "", b"192.0.2.7", False), ([FOR + 'fe80::1%"x'], "", PEER, False),
    # The nearest that is no trusted proxy's; any client may have written what stands before it.
    ([FOR + "6.6.6.6, 192.0.2.7"], "", b"192.0.2.7", False), ([FOR + "6.6.6.6, 192.0.2.7, 10.0.0.2"], "", b"192.0.2.7", False),
    ([FOR + "10.0.0.3, 10.0.0.2"], "", b"10.0.0.3", False), ([FOR + "6.6.6.6, x, 10.0.0.2"], "", b"10.0.0.2", False),
    ([FOR + "192.0.2.7,, ,10.0.0.2"], "", b"192.0.2.7", False),
    # On several lines: as if they were one.
    ([FOR + "6.6.6.6", FOR + "192.0.2.7"], "", b"192.0.2.7", False), ([FOR + "192.0.2.7", FOR + "10.0.0.2:1"], "", b"192.0.2.7", False),
    # The scheme: one word, or the one that goes with the client.
    ([PROTO + "https"], "", PEER, True), ([PROTO + "HTTPS"], "", PEER, True), ([PROTO + "http"], "", PEER, False),
    ([PROTO + "https, https"], "", PEER, True), ([PROTO + "https,http"], "", PEER, True), ([PROTO + "wss"], "", PEER, True),
    ([FOR + "192.0.2.7, 10.0.0.2", PROTO + "https, http"], "", b"192.0.2.7", True),
    ([FOR + "6.6.6.6, 192.0.2.7", PROTO + "https, http"], "", b"192.0.2.7", False),
    ([FOR + "192.0.2.7, 10.0.0.2", PROTO + "https"], "", b"192.0.2.7", True),
    ([FOR + "192.0.2.7, 10.0.0.2", PROTO + "https", PROTO + "http"], "", b"192.0.2.7", True),
    ([FOR + "192.0.2.7", "X-Forwarded-Ssl: on"], "", b"192.0.2.7", True), (["X-Forwarded-Ssl: off"], "", PEER, False),
    ([PROTO + "http", "X-Forwarded-Ssl: on"], "", PEER, False),
    # Forwarded alone; beside X-Forwarded-For it says nothing of the client.
    (["Forwarded: for=192.0.2.60;proto=https;host=a"], "", b"192.0.2.60", True),
    (['Forwarded: for="[2001:db8::7]:80"'], "", b"2001:db8::7", False), (["Forwarded: for=unknown"], "", PEER, False),
    (["Forwarded: for=192.0.2.7;proto=https, for=10.0.0.2;proto=http"], "", b"192.0.2.7", True),
    (["Forwarded: for=6.6.6.6;proto=https, for=192.0.2.7;proto=http"], "", b"192.0.2.7", False),
    (["Forwarded: for=192.0.2.7", "Forwarded: for=10.0.0.2"], "", b"192.0.2.7", False),
    (["Forwarded: for=6.6.6.6", FOR + "192.0.2.7"], "", b"192.0.2.7", False),
    (["Forwarded: for=6.6.6.6;proto=https", PROTO + "http", FOR + "192.0.2.7"], "", b"192.0.2.7", False),
    (['Forwarded: for="6.6.6.6'], "", PEER, False),
    # Other fields count only if the site says so, and then they alone.
    (["X-Real-IP: 6.6.6.6"], "", PEER, False), (["X-Real-IP: 192.0.2.7", FOR + "6.6.6.6"], "x-real-ip", b"192.0.2.7", False),
    (["CF-Connecting-IP: 2001:db8::7", FOR + "6.6.6.6"], "cf-connecting-ip", b"2001:db8::7", False),
    ([FOR + "6.6.6.6"], "cf-connecting-ip", PEER, False), (["CF-Connecting-IP: x"], "cf-connecting-ip", PEER, False),
    (["CF-Connecting-IP: 192.0.2.7", PROTO + "https"], "cf-connecting-ip", b"192.0.2.7", True),
    (["Forwarded: for=192.0.2.7", FOR + "6.6.6.6"], "forwarded", b"192.0.2.7", False),
    ([FOR + "192.0.2.7", "Forwarded: for=6.6.6.6"], "x-forwarded-for", b"192.0.2.7", False),
    (["Forwarded: for=6.6.6.6"], "x-forwarded-for", PEER, False),
]  # fmt: skip


@pytest.mark.parametrize("fields, client_from, client, https", CASES)
def test_a_trusted_proxy_says_the_client(fields: list[str], client_from: str, client: bytes, *, https: bool) -> None:
    assert seen_of(request(*fields), peer(client_from=client_from.encode())) == (client, https)


@pytest.mark.parametrize("fields, client_from, client, https", CASES)
def test_fields_of_an_untrusted_peer_are_ignored(
    fields: list[str],
    client_from: str,
    client: bytes,  # noqa: ARG001 - of a trusted one
    *,
    https: bool,  # noqa: ARG001
) -> None:
    stranger = peer(trusted=False, client_from=client_from.encode())
    assert seen_of(request(*fields), stranger) == (PEER, False)
    head = for_server(request(*fields), stranger).decode()
    assert "6.6.6.6" not in head
    assert "192.0.2.7" not in head
    assert "\r\nX-Forwarded-For: 10.0.0.1\r\n" in head
    assert "\r\nX-Forwarded-Proto: http\r\n" in head


def test_the_connection_says_the_scheme_where_no_proxy_does() -> None:
    assert seen_of(request(), peer(https=True)) == (PEER, True)
    assert seen_of(request(PROTO + "http"), peer(https=True)) == (PEER, False)


def test_one_request_says_nothing_of_the_next() -> None:
    """What was found belongs to a request, not to the connection."""
    same = peer()
    assert seen_of(request(FOR + "192.0.2.7", PROTO + "https"), same) == (b"192.0.2.7", True)
    assert seen_of(request(), same) == (PEER, False)
    assert b"192.0.2.7" not in for_server(request(), same)


def fields_of(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:-2]
    pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    assert len(dict(pairs)) == len(pairs), head
    return dict(pairs)


@pytest.mark.parametrize("fields, wanted", [
    ([FOR + "192.0.2.7", PROTO + "https"], {
        "x-forwarded-for": "192.0.2.7, 10.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "shop",
        "forwarded": 'for=192.0.2.7;proto=https;host="shop", for=10.0.0.1',
    }),
    ([PROTO + "https"], {"x-forwarded-for": "10.0.0.1", "forwarded": 'for=10.0.0.1;proto=https;host="shop"'}),
    ([PROTO + "https, http"], {"x-forwarded-proto": "https"}),
    (["X-Forwarded-Host: www", FOR + "2001:db8::7"], {
        "x-forwarded-host": "www", "forwarded": 'for="[2001:db8::7]";proto=http, for=10.0.0.1',
    }),
    (["Forwarded: for=192.0.2.7;proto=https"], {
        "forwarded": "for=192.0.2.7;proto=https, for=10.0.0.1", "x-forwarded-for": "192.0.2.7, 10.0.0.1", "x-forwarded-proto": "https",
    }),
    ([FOR + "192.0.2.7", "X-Forwarded-Port: 8443", "X-Forwarded-Prefix: /shop", "X-Forwarded-Ssl: on", "X-Real-IP: 192.0.2.7"], {
        "x-forwarded-port": "8443", "x-forwarded-prefix": "/shop", "x-forwarded-ssl": "on", "x-real-ip": "192.0.2.7",
        "x-forwarded-proto": "https",
    }),
])  # fmt: skip
def test_what_a_trusted_proxy_says_goes_on_without_a_contradiction(fields: list[str], wanted: dict[str, str]) -> None:
    found = fields_of(for_server(request(*fields), peer()))
    assert {name: found.get(name) for name in wanted} == wanted


def test_the_field_of_client_from_goes_on_and_its_client_with_it() -> None:
    found = fields_of(for_server(request("CF-Connecting-IP: 192.0.2.7"), peer(client_from=b"cf-connecting-ip")))
    assert found["cf-connecting-ip"] == "192.0.2.7"
    assert found["x-forwarded-for"] == "192.0.2.7, 10.0.0.1"


def test_fields_of_an_untrusted_peer_are_not_forwarded() -> None:
    said = (FOR + "6.6.6.6", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /", "X-Forwarded-Ssl: on", "X-Real-IP: 6.6.6.6",
            "CF-Connecting-IP: 6.6.6.6", "X_Real_IP: 6.6.6.6", "CF_Connecting-IP: 6.6.6.6")  # fmt: skip
    found = fields_of(for_server(request(*said), peer(trusted=False, client_from=b"cf-connecting-ip")))
    assert set(found) == {"host", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"}
    assert "6.6.6.6" not in str(found)

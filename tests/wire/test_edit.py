"""What becomes of a head on its way: where the client is, and by which id the request is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.origin import Provenance, for_client, for_server

VIA = b"Via: 1.1 gw\r\n"
ID = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OURS = b"X-Request-ID: " + ID


def peer(address: bytes, *, trusted: bool) -> Provenance:
    return Provenance(
        address, https=False, fallback=b"gw.example", via=VIA, trusts=(lambda _: True) if trusted else None
    )


def request(*fields: bytes) -> bytes:
    return b"\r\n".join((b"GET /a HTTP/1.1", b"Host: b", *fields, b"", b""))


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


@pytest.mark.parametrize("trusted, came, goes", [
    (False, [], []),
    (False, [b"6.6.6.6"], []),
    (True, [], []),
    (True, [b""], []),
    (True, [b"1.1.1.1"], [b"X-Forwarded-For: 1.1.1.1"]),
    (True, [b"1.1.1.1, 2.2.2.2", b"3.3.3.3"], [b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3"]),
])  # fmt: skip
def test_peer_without_an_address_adds_none(trusted: bool, came: list[bytes], goes: list[bytes]) -> None:  # noqa: FBT001
    head = for_server(request(*(b"X-Forwarded-For: " + value for value in came)), peer(b"", trusted=trusted))
    assert [line for line in lines(head) if line.lower().startswith(b"x-forwarded-for")] == goes
    # The proxy says all addresses are trusted: the client is the first. Whoever connects to a Unix socket has none.
    told = b'for=1.1.1.1;proto=http;host="b", for=unknown' if goes else b'for=unknown;proto=http;host="b"'
    assert b"Forwarded: " + told in lines(head)


def test_peer_with_an_address_is_added_to_what_a_trusted_one_says() -> None:
    came = request(b"X-Forwarded-For: 1.1.1.1", b"Forwarded: for=1.1.1.1")
    assert b"X-Forwarded-For: 1.1.1.1, 9.9.9.9" in lines(for_server(came, peer(b"9.9.9.9", trusted=True)))
    assert b"X-Forwarded-For: 9.9.9.9" in lines(for_server(came, peer(b"9.9.9.9", trusted=False)))


@pytest.mark.parametrize("trusted", [False, True])
def test_server_gets_one_id_in_place_of_those_that_came(trusted: bool) -> None:  # noqa: FBT001
    origin = peer(b"9.9.9.9", trusted=trusted)
    came = request(b"X-Request-ID: a", PARENT, b"x-request-id: b", b"X_Request_ID: c", b"X-Request-IDs: d")
    head = lines(for_server(came, origin, ID))
    assert [line for line in head if b"request" in line.lower()] == [b"X-Request-IDs: d", OURS]
    assert PARENT in head
    without = lines(for_server(came, origin))
    assert [line for line in without if b"request-id:" in line.lower()] == [b"X-Request-ID: a", b"x-request-id: b"]


def test_no_hop_can_be_made_to_forget_the_id() -> None:
    head = lines(
        for_server(request(b"Connection: X-Request-ID, traceparent", PARENT), peer(b"9.9.9.9", trusted=True), ID)
    )
    assert OURS in head
    assert PARENT in head


@pytest.mark.parametrize("status", [b"200 OK", b"101 Switching Protocols"])
def test_client_gets_the_id_of_the_request_whatever_the_server_calls_it(status: bytes) -> None:
    fields = [b"X-Request-ID: theirs", b"X-A: b", b"Connection: upgrade", b"Upgrade: x", b"", b""]
    came = b"\r\n".join((b"HTTP/1.1 " + status, *fields))
    head = lines(for_client(came, VIA, ID))
    assert [line for line in head if b"X-Request-ID" in line] == [OURS]
    assert {b"X-A: b", VIA.strip()} < set(head)
    assert b"X-Request-ID: theirs" in lines(for_client(came, VIA))


def test_version_of_an_old_server_goes_into_via_beside_an_id() -> None:
    assert b"Via: 1.0 gw" in lines(for_client(b"HTTP/1.0 200 OK\r\n\r\n", VIA, ID))


ADDRESS = st.sampled_from([b"", b"9.9.9.9", b"2001:db8::1"])
FIELD = st.sampled_from([b"X-Request-ID: " + b"a" * 128, PARENT, b"X-Forwarded-For: 1.1.1.1", b"X-A: " + b"c" * 3000])


@given(ADDRESS, st.booleans(), st.lists(FIELD, max_size=20), st.integers(0, 128))
def test_a_head_that_was_edited_is_a_head(address: bytes, trusted: bool, fields: list[bytes], n: int) -> None:  # noqa: FBT001
    head = for_server(request(*fields), peer(address, trusted=trusted), b"i" * n)
    again = lines(for_server(head, peer(address, trusted=trusted)))
    assert again.count(b"X-Request-ID: " + b"i" * n) == (n > 0)
    assert sum(line.startswith(b"X-A: ") for line in again) == fields.count(b"X-A: " + b"c" * 3000)

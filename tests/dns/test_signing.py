"""Signed answers: what dnspython validates, what is denied and how, and what signatures cost."""

from collections.abc import Callable
from typing import Any

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.balance.site_shares import SiteState
from gateway.dns import signing
from gateway.dns.records import RecordSet, wire_name
from gateway.dns.responder import Responder
from gateway.dns.signing import EARLY, JITTER, MADE_UP, REFRESH, VALID, Signer, TooMany, successor
from tests.dns.signed_zones import APEXES, PEM, SIGNED, signed, signed_responder
from tests.dns.zones import KEY, ZONES, ask, lines, query, said, size, wire

OF = signed_responder()


def ask_signed(
    name: str, kind: str = "A", *, of: Responder = OF, tcp: bool = True, **options: Any
) -> dns.message.Message:
    return ask(of, query(name, kind, want_dnssec=True, **options), tcp=tcp)


def keys_of(of: Responder = OF) -> dict[dns.name.Name, dns.rrset.RRset]:
    found = {}
    for apex in APEXES:
        response = ask_signed(apex.to_text(), "DNSKEY", of=of)
        found[apex] = response.find_rrset(response.answer, apex, dns.rdataclass.IN, dns.rdatatype.DNSKEY)
    return found


def validated(response: dns.message.Message, keys: dict[dns.name.Name, Any]) -> list[dns.rrset.RRset]:
    """Check every signature; each set of these zones must have one. Returns the sets."""
    found = []
    for section in (response.answer, response.authority):
        signatures = {(one.name, one.covers): one for one in section if one.rdtype == dns.rdatatype.RRSIG}
        for rrset in section:
            if rrset.rdtype != dns.rdatatype.RRSIG:
                dns.dnssec.validate(rrset, signatures[rrset.name, rrset.rdtype], keys)
                found.append(rrset)
    return found


LABEL = st.sampled_from(
    ["www", "shop", "mail", "store", "stall", "lost", "ext", "w", "x", "any", "wild", "host", "a", "b", "c", "*", "nx"]
)
KINDS = ["A", "AAAA", "HTTPS", "TXT", "NS", "SOA", "DNSKEY", "DS", "CAA", "ANY", "NSEC", "CNAME", "TYPE65280"]


@settings(deadline=None)
@given(st.lists(LABEL, max_size=3), st.sampled_from(["example.org", "www.example.com"]), st.sampled_from(KINDS))
def test_every_answer_is_signed_and_every_denial_proves_what_it_says(labels: list[str], zone: str, kind: str) -> None:
    name = ".".join([*labels, zone])
    response = ask_signed(name, kind)
    plain = ask(OF, query(name, kind), tcp=True)
    sets = validated(response, keys_of())
    assert response.rcode() == dns.rcode.NOERROR, "RFC 9824: the code is not signed"
    if kind == "NSEC":  # of names that exist it is an answer
        assert [one.rdtype for one in sets if one.rdtype == dns.rdatatype.NSEC]
        return
    unsigned = [(one.name, one.rdtype) for one in plain.answer]
    assert [(one.name, one.rdtype) for one in sets if one in response.answer] == unsigned
    if not plain.authority:
        return
    (nsec,) = [one for one in sets if one.rdtype == dns.rdatatype.NSEC and one in response.authority]
    end = dns.name.from_text(name)
    for one in response.answer:
        end = one[0].target if one.rdtype == dns.rdatatype.CNAME else end
    assert nsec.name == end
    assert nsec[0].next == dns.name.Name([b"\0", *end.labels])
    types = {window * 256 + i * 8 + bit for window, bitmap in nsec[0].windows
             for i, byte in enumerate(bitmap) for bit in range(8) if byte & (0x80 >> bit)}  # fmt: skip
    assert int(dns.rdatatype.from_text(kind)) not in types
    assert int(dns.rdatatype.CNAME) not in types
    assert types >= {46, 47}
    assert (128 in types) is (plain.rcode() == dns.rcode.NXDOMAIN)


def test_who_knows_compact_answers_gets_the_code() -> None:
    asked = query("nx.www.example.com", want_dnssec=True)
    assert ask(OF, asked).rcode() == dns.rcode.NOERROR
    asked.ednsflags |= 0x4000
    assert ask(OF, asked).rcode() == dns.rcode.NXDOMAIN
    assert said(OF, "nx.www.example.com").rcode() == dns.rcode.NXDOMAIN, "without signatures nothing is compact"
    assert ask(OF, wire(query("example.org", "TYPE128"))).rcode() == dns.rcode.FORMERR


def test_a_signature_is_an_answer_too() -> None:
    (found,) = ask_signed("mail.example.org", "RRSIG").answer
    assert (found.rdtype, found[0].type_covered) == (46, 47)


def test_without_do_nothing_is_signed() -> None:
    for name in ("www.example.com", "nx.www.example.com", "stall.example.org"):
        found = said(OF, name)
        assert not [one for one in (*found.answer, *found.authority) if one.rdtype in {46, 47}]
        assert not found.flags & dns.flags.AD


def test_names_below_one_zone_alone_are_signed() -> None:
    zones = {"www.example.com": ZONES["www.example.com"], "example.org": {
        **SIGNED["example.org"], "records": ["alias CNAME www.example.com.", "none CNAME nx.www.example.com."]}}  # fmt: skip
    of = Responder(signed(zones).find, KEY)
    found = ask_signed("alias.example.org", of=of)
    assert [one.rdtype for one in found.answer] == [dns.rdatatype.CNAME, dns.rdatatype.RRSIG, dns.rdatatype.A]
    found = ask_signed("none.example.org", of=of)
    assert (found.rcode(), [one.rdtype for one in found.authority]) == (dns.rcode.NXDOMAIN, [dns.rdatatype.SOA])
    assert len(ask_signed("www.example.com", of=of).answer) == 1


def test_signatures_follow_the_sites_that_work() -> None:
    names = signed()
    of = Responder(names.find, KEY)
    names.move({"mel": SiteState(up=False)}, 0.0)
    of.forget_turns()
    found = validated(ask_signed("www.example.com", of=of), keys_of(of))
    assert {str(one) for one in found[0]} == {"198.51.100.10", "203.0.113.10"}
    made = names.signers["www.example.com"].made
    for _ in range(500):
        ask_signed("www.example.com", of=of)
    assert names.signers["www.example.com"].made == made, "the order of addresses is not signed"


def test_what_is_too_long_with_signatures_is_truncated() -> None:
    zones = {"example.org": {**SIGNED["example.org"], "records": [f'@ TXT "{i:0200}"' for i in range(2)]}}
    of = Responder(signed(zones).find, KEY)
    asked = query("example.org", "TXT", want_dnssec=True, payload=512)
    assert ask(of, asked).flags & dns.flags.TC
    assert size(of, asked) <= 512
    assert len(lines(ask(of, query("example.org", "TXT"), tcp=True))) == 2
    whole = ask(of, asked, tcp=True)
    assert not whole.flags & dns.flags.TC
    validated(whole, {APEXES[1]: keys_of()[APEXES[1]]})


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[[], Signer]:
    return lambda: Signer(wire_name("example.org"), PEM, clock, 1)


SET = RecordSet(1, 300, (b"\xc0\0\2\1", b"\xc0\0\2\2"))


def times(found: RecordSet) -> tuple[int, int]:
    return int.from_bytes(found.data[0][12:16], "big"), int.from_bytes(found.data[0][8:12], "big")


def test_signatures_are_valid_for_any_ttl_and_made_anew_in_time(make: Callable[[], Signer], clock: Clock) -> None:
    signer = make()
    owners = [b"\2%02d\7example\3org\0" % i for i in range(50)]
    began = clock.now
    first = {owner: times(signer.sign(owner, SET)) for owner in owners}
    assert len(set(first.values())) > 40, "they do not end all at once"
    for begin, end in first.values():
        assert began - 2 * EARLY <= begin <= began - EARLY
        assert began + VALID - JITTER <= end <= began + VALID + 1
    made = signer.made
    while clock.now < began + 30 * 86400:
        clock.now += 3600.0
        for owner in owners:
            begin, end = times(signer.sign(owner, SET))
            assert begin <= clock.now <= end - 7 * 86400 + 3600
    assert made < signer.made <= 6 * made
    made = signer.made
    clock.now += REFRESH
    signer.renew(0.0)
    assert signer.made == made + len(owners)
    for owner in owners:
        signer.sign(owner, SET)
    assert signer.made == made + len(owners), "renew has left nothing to do"


def test_names_that_clients_make_up_are_signed_at_a_rate(make: Callable[[], Signer], clock: Clock) -> None:
    signer = make()
    for i in range(MADE_UP):
        signer.sign(b"\6%06d\7example\3org\0" % i, SET, exists=False)
    with pytest.raises(TooMany):
        signer.sign(b"\1x\7example\3org\0", SET, exists=False)
    signer.sign(b"\1x\7example\3org\0", SET)
    assert signer.refused == 1
    clock.now += 2 / MADE_UP
    signer.sign(b"\1x\7example\3org\0", SET, exists=False)


def test_too_many_made_up_names_get_servfail_and_those_that_exist_their_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signing, "MADE_UP", 3)
    of = Responder(signed().find, KEY)
    found = [ask_signed(f"x{i}.example.org", of=of).rcode() for i in range(20)]
    assert dns.rcode.SERVFAIL in found[3:]
    assert lines(ask_signed("mail.example.org", of=of))
    assert said(of, "x99.example.org").rcode() == dns.rcode.NXDOMAIN


def test_a_reload_goes_on_with_the_signatures() -> None:
    before = signed()
    Responder(before.find, KEY)
    after = signed(before=before)
    assert after.signers["example.org"] is before.signers["example.org"]


@pytest.mark.parametrize(
    "name, after",
    [
        (b"\3www\7example\0", b"\1\0\3www\7example\0"),
        (b"\x3f" + b"a" * 63 + (b"\x3f" + b"b" * 63) * 2 + b"\x3d" + b"c" * 61 + b"\0", b"\x3f" + b"a" * 62 + b"b"),
        (b"\x3f" + b"a" * 62 + b"@" + (b"\x3f" + b"b" * 63) * 2 + b"\x3d" + b"c" * 61 + b"\0", b"\x3f" + b"a" * 62 + b"["),
        (b"\x3f" + b"a" * 61 + b"a\xff" + (b"\x3f" + b"b" * 63) * 2 + b"\x3d" + b"c" * 61 + b"\0", b"\x3e" + b"a" * 61 + b"b"),
    ],
)  # fmt: skip
def test_the_next_name(name: bytes, after: bytes) -> None:
    found = successor(name)
    assert found.startswith(after)
    assert len(found) <= 255
    assert dns.name.from_wire(found, 0)[0] > dns.name.from_wire(name, 0)[0]


def test_what_is_no_key_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, message in ((b"0123456789abcdef", "not a private key"), (other, "not a key for ECDSA P-256")):
        with pytest.raises(ValueError, match=message):
            Signer(b"\0", content)

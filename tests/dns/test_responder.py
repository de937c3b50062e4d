"""What is said, as dnspython reads it: records, EDNS, cookies, limits, and nothing to what is no query."""

import time
from collections import Counter

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balance.site_shares import SiteState
from gateway.dns.kept import Answer
from gateway.dns.responder import Responder
from tests.dns.zones import KEY, ZONES, ask, attempt, lines, query, responder, said, size, table


def opt(found, kind):
    return [option for option in found.options if option.otype == kind]


def test_addresses_of_all_sites_in_turn():
    of = responder()
    first = Counter(lines(said(of, "www.example.com"))[0].split()[-1] for _ in range(360))
    assert first == {"192.0.2.10": 120, "198.51.100.10": 120, "203.0.113.10": 120}
    found = said(of, "www.example.com")
    assert found.flags & dns.flags.AA
    assert not found.flags & dns.flags.RA
    assert len(lines(found)) == 3
    assert all(line.startswith("www.example.com. 10 IN A ") for line in lines(found))
    assert {line.split()[-1] for line in lines(said(of, "www.example.com", "AAAA"))} == {
        "2001:db8::10",
        "2001:db8:1::10",
    }


def test_clients_that_ask_for_both_families_in_turn_are_shared_out_as_others():
    of = responder(
        {
            "a.example": {
                "ns": "ns.example",
                "sites": {"x": ["192.0.2.1", "2001:db8::1"], "y": ["192.0.2.2", "2001:db8::2"]},
            }
        }
    )
    first: Counter[str] = Counter()
    for _ in range(400):
        first[lines(said(of, "a.example"))[0].split()[-1]] += 1
        first[lines(said(of, "a.example", "AAAA"))[0].split()[-1]] += 1
    assert set(first.values()) == {200}


def test_the_case_of_the_question_is_kept():
    found = said(responder(), "wWw.eXample.COM", "SOA")
    assert found.question[0].name.to_text() == "wWw.eXample.COM."
    assert found.answer[0].name.labels[0] == b"wWw"


def test_https_has_the_addresses_as_hints():
    (line,) = lines(said(responder(), "www.example.com", "HTTPS"))
    assert 'HTTPS 1 . alpn="h2,http/1.1" ipv4hint="' in line
    assert "ipv6hint=" in line
    assert said(responder(), "shop.example.org", "HTTPS").answer == []


@pytest.mark.parametrize(
    "name, kind, wanted",
    [
        ("www.example.com", "NS", ["www.example.com. 3600 IN NS ns1.example.com.", "www.example.com. 3600 IN NS ns2.example.com."]),
        ("example.org", "SOA", ["example.org. 3600 IN SOA ns.example.net. dns\\.admin.example.net. 7 3600 600 604800 30"]),
        ("example.org", "TXT", ['example.org. 3600 IN TXT "v=spf1 -all"']),
        ("example.org", "CAA", ['example.org. 10 IN CAA 0 issue "ca.example"']),
        ("mail.example.org", "A", ["mail.example.org. 10 IN A 192.0.2.25", "mail.example.org. 10 IN A 192.0.2.26"]),
        ("shop.example.org", "A", ["shop.example.org. 5 IN A 192.0.2.11", "shop.example.org. 5 IN A 198.51.100.11"]),
        ("stall.example.org", "A", [
            "stall.example.org. 10 IN CNAME store.example.org.",
            "store.example.org. 10 IN CNAME shop.example.org.",
            "shop.example.org. 5 IN A 192.0.2.11", "shop.example.org. 5 IN A 198.51.100.11",
        ]),
        ("stall.example.org", "CNAME", ["stall.example.org. 10 IN CNAME store.example.org."]),
        ("ext.example.org", "A", ["ext.example.org. 10 IN CNAME www.elsewhere.example."]),
        ("any.thing.w.example.org", "A", ["any.thing.w.example.org. 10 IN A 192.0.2.12"]),
        ("other.wild.example.org", "TXT", ['other.wild.example.org. 10 IN TXT "any"']),
        ("example.org", "ANY", ['example.org. 3600 IN HINFO "RFC8482" ""']),
    ],
)  # fmt: skip
def test_records(name, kind, wanted):
    found = said(responder(), name, kind)
    assert found.rcode() == dns.rcode.NOERROR
    assert sorted(lines(found)) == sorted(wanted)
    assert found.authority == []


@pytest.mark.parametrize(
    "name, kind, code, answers",
    [
        ("www.example.com", "MX", "NOERROR", 0),
        ("nx.www.example.com", "A", "NXDOMAIN", 0),
        ("b.c.example.org", "A", "NOERROR", 0),  # exists since a.b.c does
        ("nx.b.c.example.org", "A", "NXDOMAIN", 0),
        ("w.example.org", "A", "NOERROR", 0),  # a wildcard is for names below it
        ("host.wild.example.org", "TXT", "NOERROR", 0),  # the name exists: no wildcard (RFC 4592 section 2.2.1)
        ("x.host.wild.example.org", "TXT", "NXDOMAIN", 0),
        ("other.wild.example.org", "A", "NOERROR", 0),
        ("stall.example.org", "AAAA", "NOERROR", 2),  # with the CNAMEs
        ("lost.example.org", "A", "NXDOMAIN", 1),
    ],
)
def test_what_there_is_not_comes_with_the_soa(name, kind, code, answers):
    found = said(responder(), name, kind)
    assert dns.rcode.to_text(found.rcode()) == code
    assert len(lines(found)) == answers
    (soa,) = found.authority
    negative = 60 if "example.com" in name else 30
    assert (soa.ttl, soa[0].minimum) == (negative, negative), "RFC 2308 section 5"
    assert soa.name.to_text() == ("www.example.com." if "example.com" in name else "example.org.")
    assert found.flags & dns.flags.AA


def test_a_circle_of_names_ends():
    found = responder().respond(query("loop1.example.org").to_wire(), b"\xc0\0\2\1") or b""
    assert int.from_bytes(found[6:8]) == 2, "each CNAME once"


@pytest.mark.parametrize("name", ["elsewhere.example", "com", ".", "xample.org", "notexample.org"])
def test_what_is_not_of_these_zones_is_refused(name):
    found = said(responder(), name)
    assert found.rcode() == dns.rcode.REFUSED
    assert not found.flags & dns.flags.AA
    assert found.sections[1:] == [[], [], []]


def test_flags_that_are_the_clients_come_back_and_no_others():
    asked = query("www.example.com", flags=dns.flags.RD | dns.flags.CD)
    found = ask(responder(), asked)
    assert found.flags == dns.flags.QR | dns.flags.RD | dns.flags.CD | dns.flags.AA
    asked.flags |= dns.flags.AD | dns.flags.AA | dns.flags.TC
    assert ask(responder(), asked).flags == found.flags


def test_a_response_gets_none():
    of = responder()
    response = dns.message.make_response(query("www.example.com"))
    assert attempt(of, response.to_wire()) is None
    assert of.counts()["dropped"] == {"silent": 1, "rate": 0, "send": 0}


def test_messages_that_are_no_query():
    of = responder()
    notify = dns.message.make_query("example.org", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    found = ask(of, notify.to_wire())
    assert (found.opcode(), found.rcode()) == (dns.opcode.NOTIFY, dns.rcode.REFUSED)
    for opcode in (dns.opcode.UPDATE, dns.opcode.STATUS):
        update = dns.message.Message()
        update.set_opcode(opcode)
        found = ask(of, update.to_wire())
        assert (found.opcode(), found.rcode()) == (opcode, dns.rcode.NOTIMP)
    assert ask(of, query("example.org", "AXFR")).rcode() == dns.rcode.REFUSED
    assert ask(of, query("version.bind", "TXT", rdclass="CH")).rcode() == dns.rcode.REFUSED
    broken = query("example.org").to_wire()[:-1]
    assert ask(of, broken).rcode() == dns.rcode.FORMERR


def test_edns_is_answered_if_it_is_asked_for():
    of = responder(nsid=b"gw1")
    found = said(of, "www.example.com", use_edns=-1)
    assert found.edns == -1
    found = said(of, "www.example.com", want_dnssec=True, options=[dns.edns.NSIDOption(b"")])
    assert (found.edns, found.payload, bool(found.ednsflags & dns.flags.DO)) == (0, 1232, True)
    assert [option.nsid for option in found.options] == [b"gw1"]
    assert said(of, "www.example.com").options == ()
    newer = said(of, "www.example.com", use_edns=1)
    assert (newer.rcode(), newer.edns) == (dns.rcode.BADVERS, 0)


@pytest.mark.parametrize(
    "subnet, length, scope, first",
    [
        ("198.51.100.0", 24, 16, "198.51.100.10"),
        ("198.51.0.0", 16, 16, "198.51.100.10"),
        ("2001:db8:8000::", 48, 33, "198.51.100.10"),
        ("10.0.0.0", 8, 1, None),
        ("0.0.0.0", 0, 0, None),
    ],
)
def test_a_client_subnet_decides_and_the_response_has_its_scope(subnet, length, scope, first):
    of = responder()
    found = said(of, "www.example.com", options=[dns.edns.ECSOption(subnet, length)])
    (option,) = opt(found, dns.edns.OptionType.ECS)
    assert (option.address, option.srclen, option.scopelen) == (subnet, length, scope)
    if first is not None:
        assert lines(found)[0].endswith(first)
    (option,) = opt(said(of, "mail.example.org", options=[dns.edns.ECSOption(subnet, length)]), dns.edns.OptionType.ECS)
    assert option.scopelen == 0, "it is the same for all"


def test_without_a_client_subnet_the_resolvers_address_decides():
    of = responder()
    for _ in range(5):
        assert lines(ask(of, query("www.example.com"), "198.51.3.4"))[0].endswith("198.51.100.10")
        assert lines(ask(of, query("www.example.com", "AAAA"), "2001:db8:ffff::1"))[0].endswith("2001:db8:1::10")


def test_client_subnets_can_be_ignored():
    of = responder(subnets=False)
    found = said(of, "www.example.com", options=[dns.edns.ECSOption("198.51.100.0", 24)])
    assert found.options == ()


BIG = {"big.example": {"ns": "ns.example", "records": [f'@ TXT "{i:0200}"' for i in range(20)]}}


@pytest.mark.parametrize(
    "edns, limit, most",
    [
        ({"use_edns": -1}, 1232, 512),
        ({"payload": 4096}, 1232, 1232),
        ({"payload": 600}, 1232, 600),
        ({"payload": 100}, 1232, 512),
        ({"payload": 4096}, 4096, 4096),
    ],
)
def test_what_is_too_long_is_truncated_and_whole_over_tcp(edns, limit, most):
    for count in range(1, 20):
        zones = {"big.example": {**BIG["big.example"], "records": BIG["big.example"]["records"][:count]}}
        of = responder(zones, limit=limit)
        asked = query("big.example", "TXT", **edns)
        found = ask(of, asked)
        assert size(of, asked) <= most
        whole = ask(of, asked, tcp=True)
        assert len(lines(whole)) == count
        fits = size(of, asked, tcp=True) <= most
        assert bool(found.flags & dns.flags.TC) == (not fits)
        assert len(lines(found)) == (count if fits else 0)


def test_a_cookie_as_rfc_9018_has_it():
    """Appendix A: the key, what the client sends, and what it gets."""
    of = Responder(table().find, bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf"))
    theirs = bytes.fromhex("2464c4abcf10c957")
    (option,) = opt(said(of, "example.org", options=[dns.edns.CookieOption(theirs, b"")]), dns.edns.OptionType.COOKIE)
    assert option.client == theirs
    assert option.server[:4] == b"\1\0\0\0"
    assert abs(int.from_bytes(option.server[4:8]) - time.time()) < 5
    again = ask(of, query("example.org", options=[option]))
    (kept,) = opt(again, dns.edns.OptionType.COOKIE)
    assert kept.server == option.server, "it stays for half an hour"
    assert (of.counts()["cookies"], of.counts()["bad_cookies"]) == (1, 0)
    ask(of, query("example.org", options=[option]), "192.0.2.2")
    assert of.counts()["bad_cookies"] == 1, "it is of another client"


def test_the_digest_of_a_cookie(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1559731985.0)
    of = Responder(table().find, bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf"))
    asked = query("example.org", options=[dns.edns.CookieOption(bytes.fromhex("2464c4abcf10c957"), b"")])
    (option,) = opt(ask(of, asked, "198.51.100.100"), dns.edns.OptionType.COOKIE)
    assert option.server.hex() == "010000005cf79f111f8130c3eee29480"


@pytest.mark.parametrize(
    "after, valid", [(0, True), (1700, True), (3590, True), (3700, False), (-200, True), (-400, False)]
)
def test_a_cookie_has_its_time(monkeypatch, after, valid):
    of = responder()
    (option,) = opt(
        said(of, "example.org", options=[dns.edns.CookieOption(b"12345678", b"")]), dns.edns.OptionType.COOKIE
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + after)
    said(of, "example.org", options=[option])
    assert of.counts()["cookies"] == valid


def test_a_message_that_asks_for_a_cookie_only():
    asked = dns.message.Message()
    asked.use_edns(0, options=[dns.edns.CookieOption(b"12345678", b"")])
    found = ask(responder(), asked.to_wire())
    assert (found.rcode(), found.question) == (dns.rcode.NOERROR, [])
    assert len(opt(found, dns.edns.OptionType.COOKIE)) == 1


@pytest.fixture
def still(monkeypatch):
    """The clock of rates stands still, however busy the machine is."""
    now = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)


@pytest.mark.usefixtures("still")
def test_a_network_that_asks_too_often_gets_few_answers_and_can_prove_itself():
    of = responder(rate=5)
    found = [attempt(of, query("www.example.com")) for _ in range(45)]
    whole = [one for one in found if one is not None and not one.flags & dns.flags.TC]
    cut = [one for one in found if one is not None and one.flags & dns.flags.TC]
    assert (len(whole), len(cut)) == (5, 20)
    assert all(one.answer == [] for one in cut)
    assert lines(ask(of, query("www.example.com"), "198.51.100.1")), "another network"
    assert lines(said(of, "mail.example.org")), "another name"
    assert lines(ask(of, query("www.example.com"), tcp=True))
    (option,) = opt(
        ask(of, query("example.org", "TXT", options=[dns.edns.CookieOption(b"12345678", b"")])),
        dns.edns.OptionType.COOKIE,
    )
    for _ in range(20):
        assert lines(said(of, "www.example.com", options=[option]))
    assert of.counts()["dropped"]["rate"] >= 20


@pytest.mark.usefixtures("still")
def test_names_that_a_wildcard_makes_up_count_as_one():
    of = responder(rate=5)
    found = [attempt(of, query(f"n{i}.w.example.org")) for i in range(30)]
    assert len([one for one in found if one is not None and one.answer]) == 5
    found = [attempt(of, query(f"n{i}.example.com"), "198.51.100.1") for i in range(30)]
    assert len([one for one in found if one is not None and not one.flags & dns.flags.TC]) == 5


def test_if_the_lookup_fails_the_client_gets_servfail(caplog):
    def fails(*_):
        raise RuntimeError("a bug")

    of = Responder(fails, KEY)
    assert said(of, "www.example.com").rcode() == dns.rcode.SERVFAIL
    assert said(of, "www.example.com").rcode() == dns.rcode.SERVFAIL
    assert [record.message for record in caplog.records] == ["cannot answer a query; the client gets SERVFAIL"]


def test_a_patch_outside_of_its_records_is_refused():
    with pytest.raises(ValueError, match="outside"):
        Answer(0, b"abc", 1, 0, [(2, 0)])


@given(st.binary(max_size=600))
def test_any_bytes_get_a_response_that_is_one_or_none(data):
    of = OF
    for tcp in (False, True):
        response = of.respond(data, b"\xc0\0\2\1", tcp=tcp)
        if response is not None:
            assert response[:2] == data[:2]
            assert response[2] & 0x80
            dns.message.from_wire(response, ignore_trailing=False)


OF = responder()


def test_only_sites_that_work_are_answered_and_all_if_none_does():
    names = table()
    of = Responder(names.find, KEY)
    names.move({"mel": SiteState(up=False), "syd": SiteState(draining=True)}, 0.0)
    assert {line.split()[-1] for line in lines(said(of, "www.example.com"))} == {"203.0.113.10"}
    assert lines(said(of, "www.example.com", "AAAA")) == [], "none of the sites that work has one"
    names.move({site: SiteState(up=False) for site in ("mel", "syd", "dub")}, 1.0)
    assert len(lines(said(of, "www.example.com"))) == 3
    assert names.balanced["www.example.com"].group.balance(None).open


def test_as_many_addresses_as_the_site_file_says():
    zones = {
        "a.example": {"ns": "ns.example", "answers": 2, "sites": {"x": ["192.0.2.1", "192.0.2.2"], "y": "192.0.2.3"}}
    }
    of = responder(zones)
    found = [lines(said(of, "a.example")) for _ in range(240)]
    assert {len(one) for one in found} == {2}
    first = Counter(one[0].split()[-1] for one in found)
    assert first == {"192.0.2.1": 60, "192.0.2.2": 60, "192.0.2.3": 120}


def test_a_reload_goes_on_with_the_shares_in_force():
    from gateway.config.dns import Dns  # noqa: PLC0415
    from gateway.dns.table import Table  # noqa: PLC0415

    before = table()
    before.move({"mel": SiteState(load=0.5), "syd": SiteState(load=0.5), "dub": SiteState(load=0.5)}, 0.0)
    before.move({"mel": SiteState(load=1.0), "syd": SiteState(load=0.5), "dub": SiteState(load=0.5)}, 5.0)
    shares = before.balanced["www.example.com"].group.balance(None).shares
    assert shares["mel"] == pytest.approx(1 / 3 - 0.05)
    after = Table.of(Dns.model_validate({"listen": "127.0.0.1:53", "zones": ZONES}), {}, 2, before)
    assert after.balanced["www.example.com"].group.balance(None).shares == shares

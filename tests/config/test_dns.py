"""The section `dns:`: what is accepted, and each mistake at its place."""

from pathlib import Path

import pytest

from gateway.config import ConfigError
from gateway.config.dns import parse_networks, parse_record, parse_update_key
from tests.config.conftest import BASE, Load, Refuse

ZONE = "dns: {listen: '127.0.0.1:53', zones: {www.example.com: {ns: ns1.example.com, "


def zone(text: str) -> str:
    return f"{BASE}{ZONE}{text}}}}}}}\n"


def zones(text: str) -> str:
    return f"dns: {{listen: '127.0.0.1:53', zones: {text}}}"


@pytest.mark.parametrize(
    "text, message",
    [
        ("sites: {mel: »192.0.2.999}", "192.0.2.999 is not an IP address"),
        ("sites: {mel: [192.0.2.1, »224.0.0.1]}", "224.0.0.1 is not the address of a machine"),
        ("sites: {mel: 192.0.2.1}, weights: {»syd: 2}", "syd is not one of sites"),
        ("sites: {mel: 192.0.2.1}, networks: {»mle: 10.0.0.0/8}", "mle is not one of sites (did you mean mel?)"),
        ("sites: {mel: 192.0.2.1}, policy: »nearest", "nearest needs networks, networks_file, places or latency"),
        ("sites: {mel: 192.0.2.1}, places: {mel: »{}}", "expected countries, continents or at"),
        ("sites: {mel: 192.0.2.1}, places: {»syd: {countries: AU}}", "syd is not one of sites"),
        ("sites: {mel: 192.0.2.1}, places: {mel: {countries: »au}}", "expected the code of a country in capitals"),
        ("sites: {mel: 192.0.2.1}, places: {mel: {continents: »XX}}", "expected one of AF, AN, AS, EU, NA, OC, SA"),
        ("sites: {mel: 192.0.2.1}, places: {mel: {at: »[91, 0]}}", "a latitude is from -90 to 90"),
        ("sites: {mel: 192.0.2.1}, places: {mel: {at: »here}}", "expected latitude and longitude"),
        (
            "sites: {mel: 192.0.2.1}, places: »{mel: {countries: AU}}",
            "places need the file that says where clients are",
        ),
        ("sites: {mel: 192.0.2.1}, policy: »fastest", "expected one of load, nearest, round-robin, weighted, failover"),
        ("ttl: »1.5s", "must be whole seconds, up to 7d"),
        ("ttl: »8d", "must be whole seconds, up to 7d"),
        ("shift: »0%", "must be more than 0%"),
        ("answers: »0", "must be at least 1"),
        ("soa: {mail: »hostmaster}", "expected a mail address such as hostmaster@example.com"),
        ("names: {»a..b: {sites: {mel: 192.0.2.1}}}", "expected a name such as www.example.com"),
        ("names: {shop: »{ttl: 5s}}", "sites is missing"),
        ("https: »maybe", "expected true, false or a mapping"),
        ("records: [»mail]", 'expected a record such as "mail 1h A 192.0.2.25"'),
        ("records: [»mail AAA 192.0.2.1]", "not AAA (did you mean AAAA?)"),
        (
            "records: [»mail A 192.0.2.300]",
            "cannot read 192.0.2.300 as the data of A: expected data such as 192.0.2.25",
        ),
        ("records: [»mail 1q A 192.0.2.1]", "1q is not a TTL such as 300 or 1h"),
        ("records: [a A 192.0.2.1, »a CNAME b]", "a CNAME stands alone"),
        ("records: [a CNAME b, »a A 192.0.2.1]", "a CNAME stands alone"),
        ("records: [»'@ CNAME b']", "a CNAME stands alone"),
        ("names: {a: {sites: {mel: 192.0.2.1}}}, records: [»a A 192.0.2.2]", "a has its addresses from names"),
        ("sites: {mel: 192.0.2.1}, records: [»'@ A 192.0.2.2']", "@ has its addresses from sites"),
        ("»sits: {}", "unknown key sits (did you mean sites?)"),
        ("sites: {mel: 192.0.2.1}, policy: »geoip", "failover (did you mean nearest?)"),
        ("sites: {mel: 192.0.2.1}, policy: »Leastload", "failover (did you mean load?)"),
        ("sites: {mel: 192.0.2.1}, policy: »wieghted", "failover (did you mean weighted?)"),
        ("sites: {mel: [192.0.2.1, »192.0.2.1]}", "192.0.2.1 is there twice: it is an address of mel"),
        ("sites: {mel: 192.0.2.1, syd: »192.0.2.1}", "192.0.2.1 is there twice: it is an address of mel"),
        ("sites: {mel: »169.254.1.1}", "169.254.1.1 is reached from its own network only"),
        ("sites: {mel: »255.255.255.255}", "255.255.255.255 is not the address of a machine"),
        ("sites: {mel: »'::ffff:192.0.2.1'}", "write 192.0.2.1, which is IPv4"),
        (
            "sites: {mel: 192.0.2.1, syd: 192.0.2.2}, networks: {mel: 10.0.0.0/8, syd: [10.0.0.0/9, »10.0.0.0/8]}",
            "10.0.0.0/8 is there twice: its clients prefer mel",
        ),
        ("»https: true", "https is about the zone's own name, which has no sites: give the zone sites"),
        (
            "»policy: failover, names: {a: {sites: {mel: 192.0.2.1}}}",
            "policy is about the zone's own name, which has no sites: write it in each of names",
        ),
        ("names: {a: {sites: {mel: 192.0.2.1}}, »A: {sites: {mel: 192.0.2.2}}}", "A is the same name as a"),
        ("names: {»a.: {sites: {mel: 192.0.2.1}}}", "write www for www.example.com., and @ for the zone itself"),
        ("records: [»www.example.com. A 192.0.2.1]", "write www for www.example.com., and @ for the zone itself"),
        ("names: {»a.www.example.com: {sites: {mel: 192.0.2.1}}}", "within www.example.com already: write a"),
        ("records: [»www.example.com A 192.0.2.1]", "within www.example.com already: write @"),
        (
            "records: [a 1h A 192.0.2.1, »a 2h A 192.0.2.2]",
            "a have one TTL (RFC 2181 section 5.2): 3600 before, 7200 here",
        ),
        ("records: [a A 192.0.2.1, »a 1h A 192.0.2.2]", "a have one TTL (RFC 2181 section 5.2): 10 before, 3600 here"),
        ("records: [»a NS b]", "the zone's own NS records are made of ns"),
        ("records: [»'@ SOA a b 1 2 3 4 5']", "the SOA record is made of soa"),
        ("records: [»'@ DNSKEY 257 3 13 AAAA']", "records of signatures are made as they are asked for"),
        ("records: [»a CNAME 192.0.2.1]", "CNAME needs a name such as www.example.com., not the address 192.0.2.1"),
        ("records: [»'@ MX 10 192.0.2.1']", "MX needs a name such as www.example.com., not the address 192.0.2.1"),
        ("records: [»a CNAME a]", "the alias a.www.example.com leads back to itself"),
        ("records: [»a CNAME b, b CNAME c, c CNAME a, d CNAME a]", "itself: a.www.example.com → b.www.example.com → c"),
        ("records: [»'* CNAME x']", "the alias x.www.example.com leads back to itself"),
        (f"records: [»{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 50} A 192.0.2.1]", "is longer than 253 characters"),
        (f"records: [»a CNAME {'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 50}]", "as the data of CNAME"),
    ],
)
def test_mistakes_in_a_zone(text: str, message: str, refuse: Refuse) -> None:
    refuse(zone(text), message)


@pytest.mark.parametrize(
    "text, messages",
    [
        ("dns: {listen: '127.0.0.1:53', zones: »{}}", ["expected at least one"]),
        ("dns: {listen: '127.0.0.1:53', zones: {»a_b..c: {ns: a}}}", ["expected a name such as www.example.com"]),
        ("dns: {listen: ['127.0.0.1:53', »'127.0.0.1:53'], zones: {a.example: {ns: a}}}", ["is listened on twice"]),
        ("dns: {listen: »'127.0.0.1:80', zones: {a.example: {ns: a}}}", ["127.0.0.1:80 is where a frontend listens"]),
        ("dns: {listen: '127.0.0.1:53', nsid: »'', zones: {a.example: {ns: a}}}", ["expected 1 to 64 bytes"]),
        ("dns: {listen: '127.0.0.1:53', udp_bytes: »100, zones: {a.example: {ns: a}}}", ["must be at least 512"]),
        ("dns: »{listen: '127.0.0.1:53'}", ["zones is missing"]),
        (zones("{a.example: {ns: b}, »A.example.: {ns: b}}"), ["A.example. is the same name as a.example"]),
        (zones("{a.example: {ns: »192.0.2.53}}"), ["not the address 192.0.2.53"]),
        (zones("{a.example: {ns: [b, »b]}}"), ["b is there twice"]),
        (
            zones("{a.example: {ns: b, records: [»b A 192.0.2.1]}, b.a.example: {ns: b}}"),
            ["b.a.example is in the zone b.a.example, which is here as well: write it there"],
        ),
        (
            zones("{b.a.example: {ns: b}, a.example: {ns: b, names: {»'*.b': {sites: {mel: 192.0.2.1}}}}}"),
            ["*.b.a.example is in the zone b.a.example, which is here as well"],
        ),
        (zones("{a.example: {ns: »ns.a.example}}"), ["no address there: add the record ns A and its address"]),
        (zones("{a.example: {ns: »a.example}}"), ["no address there: add the record @ A and its address"]),
        (zones("{a.example: {ns: »ns.a.example, records: [ns CNAME b.]}}"), ["ns.a.example is an alias"]),
        (
            zones("{a.example: {ns: b}, b.example: {ns: »ns.a.example}}"),
            ["ns.a.example is a name of the zone a.example and has no address there"],
        ),
        (
            zones("{a.example: {ns: »ns.a.example, records: ['* A 192.0.2.1', x.ns A 192.0.2.1]}}"),
            ["ns.a.example is a name of the zone a.example and has no address there"],  # it exists, as x.ns does
        ),
    ],
)
def test_mistakes_in_the_section(text: str, messages: list[str], refuse: Refuse) -> None:
    refuse(f"{BASE.replace('»', '')}{text}\n", *messages)


def test_the_key_of_a_zone_must_be_one(refuse: Refuse, tmp_path: Path) -> None:
    key = tmp_path / "zone.key"
    key.write_text("0123456789abcdef")
    key.chmod(0o600)
    refuse(zone("dnssec: {key_file: »zone.key}"), "not a private key: make one with gateway key dnssec")
    key.chmod(0o644)
    refuse(zone("dnssec: {key_file: »zone.key}"), "other users can read")


@pytest.mark.parametrize(
    "text",
    [
        "{a.example: {ns: ns.a.example, records: [ns AAAA 2001:db8::1]}}",
        "{a.example: {ns: ns.a.example, names: {'*': {sites: {mel: 192.0.2.1}}}}}",
        "{a.example: {ns: a.example, sites: {mel: 192.0.2.1}}}",
        "{a.example: {ns: ns.b.a.example}, b.a.example: {ns: b, records: [ns A 192.0.2.1]}}",
        "{a.example: {ns: b, ttl: 0s, sites: {mel: 192.0.2.1}, records: [a 0 A 192.0.2.1, a 0 A 192.0.2.1]}}",
        "{2.0.192.in-addr.arpa: {ns: b, records: [1 PTR www.a.example.]}}",
        "{a.example: {ns: b, records: [a CNAME b, b CNAME c, d CNAME b]}}",
    ],
)
def test_zones_that_are_taken(text: str, load_text: Load) -> None:
    assert load_text(f"{BASE}{zones(text)}\n").site.dns is not None


def test_records_that_no_answer_holds(load_text: Load) -> None:
    line = "'a TXT " + " ".join([f'"{"x" * 240}"'] * 15) + "'"
    text = zones(f"{{a.example: {{ns: b, records: [{', '.join([line] * 20)}]}}}}")
    with pytest.raises(ConfigError, match="the TXT records of a are too long for an answer"):
        load_text(f"{BASE}{text}\n")


KEY_64 = "MDEyMzQ1Njc4OWFiY2RlZg=="


@pytest.mark.parametrize(
    "text, wanted",
    [
        (f'key "gw." {{\n\talgorithm hmac-sha256;\n\tsecret "{KEY_64}";\n}};\n', ("gw", "hmac-sha256")),
        (f"# of keymgr\nhmac-sha512:gw.example:{KEY_64}\n", ("gw.example", "hmac-sha512")),
    ],
)
def test_a_tsig_key(text: str, wanted: tuple[str, str]) -> None:
    assert parse_update_key(text.encode()) == (*wanted, b"0123456789abcdef")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not a TSIG key"),
        (f"hmac-md5:gw:{KEY_64}", "expected one of hmac-sha256, hmac-sha384, hmac-sha512, not hmac-md5"),
        ("hmac-sha256:gw:!!!!", "is not base64"),
        ("hmac-sha256:gw:c2hvcnQ=", "too short"),
        (f"hmac-sha256:a..b:{KEY_64}", "expected a name"),
    ],
)
def test_what_is_no_tsig_key(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_update_key(text.encode())


def test_updates_need_a_key_and_a_name_server_may_be_elsewhere_alone(refuse: Refuse, tmp_path: Path) -> None:
    key = tmp_path / "update.key"
    key.touch(0o600)
    key.write_text("0123456789abcdef")
    refuse(zone("updates: {server: 192.0.2.53, key_file: »update.key}"), "not a TSIG key: make one with tsig-keygen")
    refuse(zone("updates: {server: 192.0.2.53, key_file: »update.key, every: »1s}"), "not a TSIG key", "at least 10s")
    refuse(f"{BASE}dns: »{{zones: {{a.example: {{ns: ns1.example.com}}}}}}\n", "listen is missing")


def test_sites_must_be_known(refuse: Refuse, tmp_path: Path) -> None:
    key = tmp_path / "sites.key"
    key.write_text("0123456789abcdef")
    key.chmod(0o600)
    peers = "{sydney: {url: 'http://a', report: '192.0.2.1:1'}}"
    sites = f"sites: {{self: mel, listen: '127.0.0.1:7946', key_file: sites.key, peers: {peers}}}\n"
    refuse(zone("sites: {mel: 192.0.2.1, »sydny: 192.0.2.2}") + sites, "there is no site sydny in sites")


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("mail A 192.0.2.25", ("mail", None, "A", "192.0.2.25")),
        ("MAIL 1h30m IN a 192.0.2.25", ("mail", 5400, "A", "192.0.2.25")),
        ("@   300  MX 10 mail", ("@", 300, "MX", "10 mail.example.com.")),
        ("*.x CNAME www.example.net.", ("*.x", None, "CNAME", "www.example.net.")),
        ('@ TXT "a b" "c"', ("@", None, "TXT", '"a b" "c"')),
        ("_sip._tcp SRV 1 2 5060 sip", ("_sip._tcp", None, "SRV", "1 2 5060 sip.example.com.")),
    ],
)
def test_records_are_read_as_in_a_zone_file(line: str, wanted: tuple[str, int | None, str, str]) -> None:
    found = parse_record(line, "example.com")
    assert (found.owner, found.ttl, found.kind, found.rdata.to_text()) == wanted


def test_networks_in_a_file(tmp_path: Path, refuse: Refuse) -> None:
    content = b"# ours\n10.0.0.0/8 mel   # all of it\n\n2001:db8::/32\tsyd\n"
    assert [(str(network), site) for network, site in parse_networks(content, {"mel": 0, "syd": 0})] == [
        ("10.0.0.0/8", "mel"),
        ("2001:db8::/32", "syd"),
    ]
    for wrong, message in (
        (b"\n10.0.0.0/8\n", "2: expected a network and a site"),
        (b"10.0.0.1/8 mel\n", "1: "),
        (b"10.0.0.0/8 me\n", "1: me is not one of sites (did you mean mel?)"),
    ):
        with pytest.raises(ValueError, match=message.partition("(")[0]):
            parse_networks(wrong, {"mel": 0, "syd": 0})
    (tmp_path / "networks").write_text("10.0.0.0/8 dub\n")
    refuse(zone("sites: {mel: 192.0.2.1}, networks_file: »networks"), "networks:1: dub is not one of sites")

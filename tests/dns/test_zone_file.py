"""Zones as text: what another name server would answer by them is what this one answers."""

import dns.name
import dns.rdatatype
import dns.zone
import pytest

from gateway.balance.site_shares import SiteState
from gateway.dns import zone_file
from tests.dns.zones import ZONES, attempt, query, responder, table


@pytest.mark.parametrize("name", ZONES)
def test_the_text_has_the_answers_of_the_name_server(name: str) -> None:
    text = "\n".join(zone_file.lines(table(), name))
    zone = dns.zone.from_text(text + "\n", relativize=False)  # checks that there is one SOA and an NS
    of = responder()
    asked = 0
    for owner, node in zone.nodes.items():
        for rdataset in node.rdatasets:
            said = attempt(of, query(str(owner), dns.rdatatype.to_text(rdataset.rdtype)), tcp=True)
            assert said is not None
            answer = said.find_rrset(said.answer, owner, rdataset.rdclass, rdataset.rdtype)
            assert answer.ttl == rdataset.ttl
            if rdataset.rdtype != dns.rdatatype.HTTPS:  # its hints are in an order that changes
                assert set(answer) == set(rdataset)
            asked += 1
    assert asked >= 5


def test_sites_that_do_not_work_are_left_out() -> None:
    names = table()
    names.move({"syd": SiteState(up=False)}, 0.0)
    text = "\n".join(zone_file.lines(names, "www.example.com"))
    assert "192.0.2.10" in text
    assert "198.51.100.10" not in text


def test_an_unknown_zone_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no zone example\.net: the site file has www\.example\.com, example\.org"):
        list(zone_file.lines(table(), "example.net"))

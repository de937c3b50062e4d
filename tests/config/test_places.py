"""MaxMind files: what is read of them, and what is refused before it is used."""

import os
import random
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.config.places import NOWHERE, Database, Place, Whereabouts, distance, preferred, read, whereabouts
from tests.support.places import PLACES, write


def test_a_file_says_where_addresses_are_and_for_how_many_that_holds(tmp_path: Path) -> None:
    write(tmp_path / "a.mmdb", PLACES)
    found, _ = read(tmp_path / "a.mmdb")
    assert found.name.startswith("Test-City of 20")
    for address, wanted in (
        ("198.51.100.7", (Whereabouts("AU", "OC", (-33.9, 151.2)), 24)),
        ("203.0.113.200", (Whereabouts("SG", "AS", (1.3, 103.8)), 25)),
        ("2001:db8:5::1", (Whereabouts("NZ", "OC"), 48)),
    ):
        assert found.find(ip_address(address)) == wanted
    assert found.find(ip_address("192.0.2.1"))[0] == NOWHERE
    number = found.fileno()
    found.close_descriptor()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    assert found.find(ip_address("198.51.100.7"))[0].country == "AU", "what was opened stays"


def test_a_file_of_ipv4_says_nothing_of_ipv6(tmp_path: Path) -> None:
    found = Database.of(write(tmp_path / "a.mmdb", {"198.51.100.0/24": PLACES["198.51.100.0/24"]}, version=4))
    assert found.find(ip_address("198.51.100.7"))[1] == 24
    assert found.find(ip_address("2001:db8:5::1")) == (NOWHERE, 0)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a MaxMind file"),
        (b"PK\x03\x04", "not a MaxMind file"),
        (b"\xab\xcd\xefMaxMind.com", "MaxMind file"),
        (b"\xab\xcd\xefMaxMind.com\xe0", "a damaged MaxMind file"),
    ],
)
def test_other_files(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Database.of(content)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    content = write(tmp_path / "a.mmdb", {"198.51.100.0/24": {"autonomous_system_number": 64496}})
    with pytest.raises(ValueError, match="says nothing of countries, continents or locations"):
        Database.of(content)


def test_damaged_files_are_refused_or_answer(tmp_path: Path) -> None:
    """Any byte may be wrong: nothing but ValueError comes of it."""
    whole = write(tmp_path / "a.mmdb", PLACES)
    rng = random.Random(17)
    addresses = [ip_address(text) for text in ("198.51.100.7", "203.0.113.200", "2001:db8:5::1", "192.0.2.1")]
    for number in range(400):
        content = bytearray(whole)
        for _ in range(1 + number % 4):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if number % 5 == 0:
            del content[rng.randrange(len(content)) :]
        try:
            found = Database.of(bytes(content))
            for address in addresses:
                found.find(address)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "record",
    [
        None,
        "AU",
        [],
        {},
        {"country": "AU"},
        {"country": {"iso_code": 7}},
        {"location": {"latitude": "x"}},
        {"location": 3},
    ],
)
def test_records_of_another_form(record: object) -> None:
    assert whereabouts(record) == NOWHERE


def test_country_before_continent_before_distance() -> None:
    places = [
        ("far", Place(at=(40.7, -74.0))),
        ("mel", Place(at=(-37.8, 145.0))),
        ("oceania", Place(continents=("OC",))),
        ("syd", Place(countries=("AU",), at=(-33.9, 151.2))),
    ]
    sydney = Whereabouts("AU", "OC", (-33.9, 151.2))
    assert [site for site, _ in preferred(places, sydney)] == ["syd", "oceania", "mel", "far"]
    assert preferred(places, sydney)[0][1] == "country AU"
    assert [site for site, _ in preferred(places, Whereabouts("NZ", "OC", (-36.9, 174.8)))] == [
        "oceania", "syd", "mel", "far",
    ]  # fmt: skip
    assert preferred(places, Whereabouts("US")) == []
    assert preferred(places[:1], Whereabouts("US", "NA", (40.7, -74.0))) == [("far", "0 km away")]


def test_distance() -> None:
    assert distance((-33.9, 151.2), (48.9, 2.4)) == pytest.approx(16960, rel=0.01), "Sydney to Paris"
    assert distance((0, 179.5), (0, -179.5)) == pytest.approx(111.2, rel=0.01), "over the date line"
    assert distance((90, 0), (-90, 0)) == pytest.approx(20015, rel=0.01)

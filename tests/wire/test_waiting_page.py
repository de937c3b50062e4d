"""The answers to waiting clients: text, page and JSON."""

import json

import pytest

from gateway.wire.waiting_page import WaitingPage, duration_text, full_json, full_page

PAGE = WaitingPage(5, None, 0)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, "unknown"),
        (0.0, "less than a minute"),
        (59.9, "less than a minute"),
        (61.0, "about 1 minute"),
        (150.0, "about 2 minutes"),
        (3500.0, "about 58 minutes"),
        (7200.0, "about 2 hours"),
        (400_000.0, "about 5 days"),
    ],
)
def test_durations_are_as_rough_as_they_are_known(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_places_count_from_one() -> None:
    assert PAGE.text(0, None) == "You are number 1 in the queue. How long it will take is not known yet."
    assert PAGE.text(11, 90.0) == "You are number 12 in the queue. It will take about 2 minutes."


def test_before_the_opening_no_client_has_a_place() -> None:
    page = WaitingPage(5, None, 1_798_135_200)
    assert "2026-12-24 18:00 UTC" in page.text(None, None)
    found = json.loads(page.json(None, 3, None, "", ""))
    assert (found["state"], found["place"], found["opens"]) == ("early", None, "2026-12-24 18:00 UTC")


def test_an_address_cannot_leave_its_place_in_the_page() -> None:
    url = "/x?</script><b>\"'&gwsession=abc"
    page = PAGE.html(0, 1, None, "visitor", url).decode()
    assert "</script><b>" not in page
    assert page.count("</script>") == 1
    assert 'content="5; url=/x?&lt;/script&gt;&lt;b&gt;&quot;&#x27;&amp;gwsession=abc"' in page
    assert json.loads(PAGE.json(0, 1, None, "visitor", url))["url"] == url


def test_a_page_of_the_site_has_values_and_other_braces() -> None:
    page = WaitingPage(7, b"<style>b{x}</style>{place}/{waiting} {estimate} {class} {refresh} {opens}{nothing} \xff", 0)
    assert page.html(2, 9, 30.0, "gold", "") == b"<style>b{x}</style>3/9 less than a minute gold 7 {nothing} \xff"
    assert page.custom


def test_who_gets_no_place_is_told_so() -> None:
    assert b"503" in full_page(503)
    assert json.loads(full_json())["state"] == "full"

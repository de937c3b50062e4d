"""What gateways say of their sites in the metrics of a report, and what of it gateways of a version before read."""

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.dns import MAX_TTL
from gateway.control.hearsay import Hearsay
from gateway.control.site_report import (
    FORMAT,
    MAX_REPORTS,
    ROOM,
    SiteReport,
    ask,
    backend,
    metrics_of,
    of_metrics,
    time,
)
from loadagent.report import MAX_SHARE, Report, State, decode, encode

KEY = b"0123456789abcdef"
ALL = SiteReport(
    load=0.5, mean_load=0.4, requests=120.0, evacuates=True, ttl=30.0, sessions_free=7, responses=55.5, open_names=2
)


def sent(metrics: dict[str, float]) -> dict[str, float]:
    """Return metrics as they arrive; those that a report does not allow are an error here."""
    return decode(encode(Report("syd", 1, 1, 1, State.READY, "gw", metrics), KEY), KEY).metrics


def test_what_is_said_is_read() -> None:
    four, six = ip_address("192.0.2.53"), ip_address("2001:db8::53")
    details = [backend("app", 0.75), time(four, 12.5), time(six, 250.0), ask(six), ask(four)]
    (metrics,) = metrics_of(ALL, details)
    found = of_metrics(sent(metrics))
    assert found == replace(ALL, backends={"app": 0.75}, times={four: 12.5, six: 250.0}, asks=(six, four))
    assert of_metrics(sent(metrics_of(SiteReport())[0])) == SiteReport()


def test_a_gateway_of_before_is_understood_and_understands() -> None:
    assert of_metrics({"load": 0.5, "requests": 3.0}) == SiteReport(load=0.5, mean_load=0.5, requests=3.0), "format 1"
    for metrics in metrics_of(ALL, [backend(f"b{i}", 1.0) for i in range(20)]):
        assert sent(metrics)["load"] == 0.5, "each report is whole: what is not in it is not forgotten"
        assert metrics["requests"] == 120.0
        assert (metrics["evacuates"], metrics["dns_ttl"], metrics["format"]) == (1.0, 30.0, FORMAT)


def test_reports_are_bounded() -> None:
    found = metrics_of(ALL, [backend(f"{i:03} of a name that is much too long for a metric", 1.0) for i in range(500)])
    assert len(found) == MAX_REPORTS
    assert sum(len(of_metrics(sent(one)).backends) for one in found) == MAX_REPORTS * ROOM
    assert of_metrics(sent(metrics_of(SiteReport(requests=1e9, sessions_free=10**9))[0])).requests == MAX_SHARE
    assert of_metrics({"dns_ttl": MAX_SHARE}).ttl == MAX_TTL, "a site that lies has no evacuation wait for eleven days"


@given(st.dictionaries(st.text(max_size=40), st.floats(0, 1e6), max_size=16))
def test_any_metrics_are_read(metrics: dict[str, float]) -> None:
    found = of_metrics(metrics)
    assert all(part <= 1.0 for part in found.backends.values())


@given(st.sampled_from(["t:", "q:", "b:"]), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=:-", max_size=30))
def test_addresses_of_another_form_are_passed_over(prefix: str, text: str) -> None:
    found = of_metrics({prefix + text: 1.0})
    assert all(len(ip.packed) in {4, 16} for ip in (*found.times, *found.asks))


def heard(*reports: tuple[str, SiteReport, list[tuple[str, float]]]) -> Hearsay:
    found = Hearsay()
    for node, said, details in reports:
        for metrics in metrics_of(said, details):
            found.hear(Report("syd", 1, 1, 1, State.READY, node, sent(metrics)), 0.0)
    return found


def test_a_site_is_the_sum_of_its_gateways_and_a_backend_as_the_one_sees_it_that_sees_least() -> None:
    site = heard(
        ("gw1", SiteReport(load=0.5, sessions_free=3, responses=10.0), [backend("app", 1.0), backend("api", 1.0)]),
        ("gw2", SiteReport(load=0.4, sessions_free=4, open_names=1), [backend("app", 0.5)]),
    )
    view = site.view("syd", 1.0, 5.0)
    assert (view.sessions_free, view.responses, view.open_names) == (7, 10.0, 1)
    assert view.backends == {"app": 0.5, "api": 1.0}
    site.hear(Report("syd", 1, 1, 1, State.READY, "gw1", metrics_of(SiteReport(load=0.5))[0]), 4.0)
    assert site.view("syd", 6.0, 5.0).backends == {"api": 1.0, "app": 1.0}, "gw2 is silent"
    assert site.view("syd", 60.0, 100.0).backends == {}, "the report of the backend is too old"


def test_a_site_without_sessions_is_full() -> None:
    site = heard(("gw1", SiteReport(load=0.2, sessions_free=0), []))
    assert site.load("syd", 0.0, 5.0) == (1.0, 0.0), "nobody is redirected there to wait"


def test_a_peer_cannot_fill_the_memory() -> None:
    site = Hearsay()
    for i in range(1000):
        metrics = metrics_of(SiteReport(), [backend(f"b{i * ROOM + j}", 1.0) for j in range(ROOM)])[0]
        site.hear(Report("syd", 1, 1, 1, State.READY, "gw1", metrics), 0.0)
    assert len(site.view("syd", 0.0, 5.0).backends) == 64

"""`gateway top`: what it computes, and its page."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from gateway.board import BOUNDS
from gateway.cli import main
from gateway.cli.top_figures import INTERVALS, KEYS, Figures, Sample, percentile
from gateway.cli.top_screen import PANES, WIDTH, page
from gateway.reports import GatewayReport
from tests.admin.reports import control


def durations(**cells: int) -> tuple[int, ...]:
    return tuple(cells.get(f"c{number}", 0) for number in range(len(BOUNDS) + 1))


def later(report: GatewayReport) -> GatewayReport:
    """The same gateway, after 100 requests more: 10 with 4xx, 5 with 5xx; 50 within 1 ms, 50 within 10 ms."""

    def grown(traffic):
        answers = tuple(a + b for a, b in zip(traffic.answers, (0, 85, 0, 10, 5), strict=True))
        more = durations(c1=50, c4=50)
        times = tuple(a + b for a, b in zip(traffic.durations, more, strict=True))
        return replace(traffic, answers=answers, durations=times, bytes_out=traffic.bytes_out + 1000)

    return replace(report, frontends=tuple(map(grown, report.frontends)), backends=tuple(map(grown, report.backends)))


@pytest.mark.parametrize(
    "part, cells, seconds",
    [
        (0.5, durations(), None),
        (0.5, durations(c0=10), 0.00025),
        (1.0, durations(c0=10), 0.0005),
        (0.5, durations(c0=5, c2=5), 0.0005),
        (0.99, durations(c15=1), BOUNDS[-1]),
    ],
)
def test_percentiles_are_linear_inside_a_cell(part, cells, seconds):
    assert percentile(part, cells) == seconds


def test_rates_are_the_growth_of_counters():
    before = control()
    figures = Figures.between(before, later(before), 2.0)
    (frontend, *_) = figures.frontends
    assert (frontend.requests, frontend.client_errors, frontend.server_errors) == (50.0, 5.0, 2.5)
    assert frontend.p50 == 1.0
    assert frontend.p99 == pytest.approx(9.9, abs=0.11)
    assert frontend.bytes_out == 500.0


def test_a_counter_that_began_again_counts_from_zero():
    before = control()
    figures = Figures.between(later(before), before, 1.0)
    assert all(each.requests >= 0 for each in (*figures.frontends, *figures.backends))


def test_a_sample_names_clients_urls_and_the_slowest():
    sample = Sample()
    for number in range(10):
        sample.add(
            {
                "client": "192.0.2.1" if number < 7 else "192.0.2.2",
                "host": "a",
                "uri": f"/x?{number}",
                "duration_ms": float(number),
                "status": 200,
            }
        )
    sample.add({"lost": 30})
    assert sample.clients() == [("192.0.2.1", 0.7), ("192.0.2.2", 0.3)]
    assert sample.urls() == [("a/x", 1.0)]
    assert sample.slowest()[0] == (9.0, "a/x", "192.0.2.2", 200)
    assert (sample.count, sample.lost) == (10, 30)
    for _ in range(INTERVALS):
        sample.turn()
    assert (sample.count, sample.clients()) == (0, [])


def test_a_sample_is_bounded():
    sample = Sample()
    for number in range(2 * KEYS):
        sample.add({"client": f"client {number}", "host": "a", "uri": f"/{number}", "duration_ms": 1})
    (now,) = sample._intervals
    assert len(now.clients) == len(now.urls) == KEYS
    assert len(now.slowest) <= 100


@pytest.mark.parametrize("pane", PANES)
def test_the_page_fits_80_columns_and_shows_no_control_characters(pane):
    before, sample = control(), Sample()
    sample.add({"client": "2001:db8::" + "1" * 40, "host": "h" * 90, "uri": "/\x1b[31m" + "x" * 90, "status": 500})
    lines = list(page(Figures.between(before, later(before), 1.0), sample, pane))
    assert [text for text, _ in lines if len(text) > WIDTH] == []
    assert not any("\x1b" in text for text, _ in lines)


def test_without_a_terminal_it_asks_for_once():
    done = CliRunner().invoke(main, ["top"])
    assert done.exit_code == 2
    assert "this is no terminal: add --once" in done.stderr

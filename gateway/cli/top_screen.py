"""The page of `gateway top`, as lines with a style. Pure."""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from gateway.cli.top_figures import Figures, Sample, TrafficFigures
from loadagent.printable import printable

Line: TypeAlias = tuple[str, str]
"""A text, and "", "bold", "dim" or "bad"."""
WIDTH: Final = 80
NAME: Final = 18
SLOW_STATES: Final = {"down", "ejected", "maintenance"}


def page(figures: Figures, sample: Sample, pane: str, remark: str = "") -> Iterator[Line]:
    """The whole of it: all traffic, then one pane."""
    whole = sum(each.requests for each in figures.frontends)
    errors = sum(each.server_errors for each in figures.frontends)
    yield f"{figures.node}  {_rate(whole)} requests/s, {_rate(errors)} with 5xx  {remark}".rstrip(), "bold"
    yield from _traffic("frontend", figures.frontends, "clients")
    yield from _traffic("backend", figures.backends, "in flight")
    yield "", ""
    yield from PANES[pane](figures, sample)


def _traffic(kind: str, rows: tuple[TrafficFigures, ...], opened: str) -> Iterator[Line]:
    titles = "req/s", "4xx/s", "5xx/s", "p50", "p95", "p99 ms", "queued"
    widths = 8, 7, 7, 7, 7, 8, 7
    heads = "".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))
    yield f"{kind:<{NAME}}{heads}{opened:>11}", "dim"
    for row in rows:
        cells = (
            *(_rate(row.requests), _rate(row.client_errors), _rate(row.server_errors)),
            *(_ms(row.p50), _ms(row.p95), _ms(row.p99), str(row.queued)),
        )
        text = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        yield f"{_cut(row.name, NAME - 1):<{NAME}}{text}{row.open:>11}", "bad" if row.server_errors >= 0.05 else ""


def _servers(figures: Figures, _: Sample) -> Iterator[Line]:
    yield f"{'server':<28}{'state':<12}{'weight':>7}{'load':>6}{'req/s':>8}{'fail/s':>7}{'ms':>7}{'now':>5}", "dim"
    for row in figures.servers:
        load = "" if row.load is None else f"{row.load:.0%}"
        text = (
            f"{_cut(row.name, 27):<28}{row.state:<12}{row.weight:>7.3g}{load:>6}{_rate(row.requests):>8}"
            f"{_rate(row.failures):>7}{_ms(row.mean):>7}{row.in_flight:>5}"
        )
        yield text, "bad" if row.state in SLOW_STATES or row.failures >= 0.05 else ""


def _classes(figures: Figures, _: Sample) -> Iterator[Line]:
    if not figures.classes:
        yield "the site has no classes", "dim"
        return
    yield from _traffic("class", figures.classes, "in flight")


def _clients(_: Figures, sample: Sample) -> Iterator[Line]:
    yield from _shares("client", sample.clients(), sample)


def _urls(_: Figures, sample: Sample) -> Iterator[Line]:
    yield from _shares("URL, without its query", sample.urls(), sample)


def _shares(title: str, rows: list[tuple[str, float]], sample: Sample) -> Iterator[Line]:
    yield f"{'part':>7}  {title} ({_sampled(sample)})", "dim"
    for key, share in rows:
        yield f"{share:>7.1%}  {_cut(printable(key), WIDTH - 9)}", ""


def _slowest(_: Figures, sample: Sample) -> Iterator[Line]:
    yield f"{'ms':>9} {'status':>6}  {'client':<20} URL ({_sampled(sample)})", "dim"
    for duration, url, client, status in sample.slowest():
        text = f"{duration:>9.1f} {status or '-':>6}  {_cut(printable(client), 20):<20} {_cut(printable(url), 41)}"
        yield text, "bad" if status >= 500 else ""


def _sampled(sample: Sample) -> str:
    whole = sample.count + sample.lost
    return f"of {whole} requests" if not sample.lost else f"{sample.count} of {whole} requests seen"


PANES: Final[dict[str, Callable[[Figures, Sample], Iterator[Line]]]] = {
    "servers": _servers,
    "classes": _classes,
    "clients": _clients,
    "urls": _urls,
    "slowest": _slowest,
}
"""By name; the key of each is its first letter, but for classes: k, and slowest: l."""


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"

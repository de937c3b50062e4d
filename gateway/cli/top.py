"""`gateway top`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.gateways import TARGET, Gateway, find
from gateway.cli.output import JSON, complain, fail, wants_json

if TYPE_CHECKING:
    from gateway.cli.tails import Tails
    from gateway.cli.top_figures import Figures, Sample
    from gateway.reports import GatewayReport

PER_SECOND: Final = 500
"""Records of each worker that clients, URLs and slowest requests are found in."""
KEYS: Final = {"s": "servers", "k": "classes", "c": "clients", "u": "urls", "l": "slowest"}
HELP: Final = "s servers  k classes  c clients  u URLs  l slowest  space pause  +/- interval  q quit"
INTERVALS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


@click.command()
@TARGET
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 60.0),
    metavar="SECONDS",
    help="Time between two pages.",
)
@click.option("--once", is_flag=True, help="Measure for one interval, print everything and end.")
@JSON
def top(target: str | None, every: float, *, once: bool) -> None:
    """Show what a running gateway does, live: rates, times, servers, classes, clients, URLs, slowest requests.

    Keys: s servers, k classes, c clients, u URLs, l slowest requests, space pauses, + and - change the interval, q
    ends. Percentiles are of the last interval. Clients, URLs and slowest requests are found in a sample of the last ten
    intervals: at most 500 requests a second of each worker.
    """
    if wants_json() and not once:
        raise click.UsageError("--json goes with --once; `gateway logs --json` is live")
    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("this is no terminal: add --once")
    from gateway.cli.tails import Tails, wanted  # noqa: PLC0415

    gateway = find(target)
    watch = _Watch(gateway)
    with Tails([gateway], wanted("", per_second=PER_SECOND)) as tails:
        if once:
            watch.listen(tails, every)
            watch.look()
            if watch.figures is None:
                fail(watch.problem or "the gateway has ended")
            _print(watch.figures, watch.sample)
            return
        if not _show(watch, tails, every):
            complain("the gateway has ended")


class _Watch:
    """Follows a gateway: its reports and the sample of its requests. `figures`: None before the second report."""

    def __init__(self, gateway: Gateway) -> None:
        from gateway.cli.top_figures import Sample  # noqa: PLC0415

        self._gateway = gateway
        self._before: tuple[GatewayReport, float] | None = None
        self.sample: Sample = Sample()
        self.figures: Figures | None = None
        self.problem = ""
        self.ended = False
        self.look()

    def look(self) -> None:
        """Take another report."""
        from gateway.cli.top_figures import Figures  # noqa: PLC0415
        from gateway.system import running  # noqa: PLC0415

        try:
            report, now = self._gateway.report(), time.monotonic()
        except OSError as error:
            self.problem = str(error)
            try:  # an upgrade has replaced it
                self._gateway = self._gateway.again()
            except running.NotFound:
                return
            return
        self.problem = ""
        if self._before is not None:
            self.figures = Figures.between(self._before[0], report, now - self._before[1])
        self._before = report, now

    def listen(self, tails: "Tails", seconds: float) -> None:
        """Take up records for so long."""
        end = time.monotonic() + seconds
        while not self.ended and (left := end - time.monotonic()) > 0:
            found = tails.read(left)
            if found is None:
                self.ended = True
                return
            for _, said in found:
                self.sample.add(said)


def _print(figures: "Figures", sample: "Sample") -> None:
    from gateway.cli.top_screen import PANES, page  # noqa: PLC0415

    if not wants_json():
        lines = [text for text, _ in page(figures, sample, "servers")]
        for pane in list(PANES)[1:]:
            lines += ["", *(text for text, _ in PANES[pane](figures, sample))]
        click.echo("\n".join(lines))
        return
    said: dict[str, Any] = asdict(figures)
    said["clients"] = [{"client": client, "part": part} for client, part in sample.clients()]
    said["urls"] = [{"url": url, "part": part} for url, part in sample.urls()]
    keys = "duration_ms", "url", "client", "status"
    said["slowest"] = [dict(zip(keys, row, strict=True)) for row in sample.slowest()]
    said["sample"] = {"requests": sample.count, "left_out": sample.lost}
    click.echo(json.dumps(said, indent=2))


def _show(watch: _Watch, tails: "Tails", every: float) -> bool:
    """Show pages until a key ends it; False: the gateway has ended."""
    try:
        import curses  # noqa: PLC0415
    except ImportError:
        fail("this Python has no curses: `gateway top --once` needs none")
    try:
        return curses.wrapper(_Screen(watch, tails, every).run)
    except KeyboardInterrupt:
        return True


class _Screen:
    """The terminal."""

    def __init__(self, watch: _Watch, tails: "Tails", every: float) -> None:
        self._watch = watch
        self._tails = tails
        self._every = every
        self._pane = "servers"
        self._paused = False

    def run(self, window: Any) -> bool:  # curses has no type for it that is there at run time
        """The loop: a page each interval, and keys meanwhile."""
        styles = self._styles()
        window.timeout(0)
        due = time.monotonic()
        while not self._watch.ended:
            if time.monotonic() >= due:
                due = time.monotonic() + self._every
                self._watch.look()
                self._watch.sample.turn()
                if not self._paused:
                    self._draw(window, styles)
            self._watch.listen(self._tails, min(0.1, max(0.01, due - time.monotonic())))
            key = window.getch()
            if key in {ord("q"), 27}:
                return True
            if key >= 0:
                self._press(chr(key) if key < 256 else "")
                self._draw(window, styles)
        return False

    def _press(self, key: str) -> None:
        if key in KEYS:
            self._pane = KEYS[key]
        elif key == " ":
            self._paused = not self._paused
        elif key in {"+", "-"}:
            others = [each for each in INTERVALS if (each > self._every if key == "-" else each < self._every)]
            self._every = (others[0] if key == "-" else others[-1]) if others else self._every

    def _styles(self) -> dict[str, int]:
        import curses  # noqa: PLC0415

        bad = curses.A_BOLD
        if curses.has_colors():
            curses.use_default_colors()
            curses.init_pair(1, curses.COLOR_RED, -1)
            bad |= curses.color_pair(1)
        return {"": curses.A_NORMAL, "bold": curses.A_BOLD, "dim": curses.A_DIM, "bad": bad}

    def _draw(self, window: Any, styles: dict[str, int]) -> None:
        import curses  # noqa: PLC0415

        window.erase()
        height, width = window.getmaxyx()
        put: Callable[[int, str, str], None] = lambda row, text, style: window.addnstr(  # noqa: E731
            row, 0, text, max(0, width - 1), styles[style]
        )
        try:
            for row, (text, style) in enumerate(self._lines()):
                if row >= height - 1:
                    break
                put(row, text, style)
            put(height - 1, HELP, "dim")
        except curses.error:
            pass  # the window has become smaller meanwhile
        window.refresh()

    def _lines(self) -> "list[tuple[str, str]]":
        from gateway.cli.top_screen import page  # noqa: PLC0415

        watch = self._watch
        remark = watch.problem or ("PAUSED" if self._paused else f"every {self._every:g} s")
        if watch.figures is None:
            return [(watch.problem or "measuring …", "bold")]
        return list(page(watch.figures, watch.sample, self._pane, remark))

"""`gateway explain`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli import colour
from gateway.cli.gateways import ask_api, ask_control, elsewhere, find_here, remote
from gateway.cli.output import JSON, fail, fitted, tell, wants_json
from gateway.cli.sites import OFFLINE, SITE_FILE, load_site, run_as_user

if TYPE_CHECKING:
    from gateway.cli.remote import Remote
    from gateway.config import Loaded, Site
    from gateway.config.expectation import Assumption
    from gateway.explain.live import Live


@click.command()
@click.argument("site", type=SITE_FILE)
@click.argument("method", metavar="METHOD|dns")
@click.argument("url", metavar="URL|NAME")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help=("Header of the request; may be repeated.")
)
@click.option("--client", default="192.0.2.1", show_default=True, help="Address of the client.")
@click.option("--live", is_flag=True, help="Use the loads, sessions and health of the running gateway.")
@click.option("--assume", metavar="YAML", help="Suppose this, as in `assume` of tests: '{live: 2000, ticket: queued}'.")
@OFFLINE
@click.option("--type", "kind", default="A", show_default=True, help="Record type, with dns.")
@remote
@JSON
def explain(  # noqa: PLR0913 - one an option
    site: Path,
    method: str,
    url: str,
    headers: tuple[str, ...],
    client: str,
    *,
    live: bool,
    assume: str | None,
    offline: bool,
    kind: str,
) -> None:
    """Explain step by step how SITE handles a request: METHOD and the full URL. Sends nothing.

    With dns and a NAME: what the name server of SITE answers to the client, and why. With --admin SITE is -: the site
    file in use there, with --live.
    """
    if (other := elsewhere()) is not None:
        if str(site) != "-" or not live or assume is not None or offline or method == "dns":
            raise click.UsageError("with --admin: gateway explain - METHOD URL --live, with -H and --client only")
        _explain_there(other, f"{method} {url}", headers, client)
        return
    if str(site) == "-":
        raise click.UsageError("- is the site file in use at the gateway of --admin")
    if method == "dns":
        if headers or assume is not None:
            raise click.UsageError("dns takes --client, --type, --live and --json")
        _explain_dns(site, (url, kind), client, live=live, offline=offline)
    from gateway.explain.asked import Asked  # noqa: PLC0415
    from gateway.explain.report import plain, tree  # noqa: PLC0415
    from gateway.explain.sandbox import Sandbox  # noqa: PLC0415

    pairs = _pairs(headers)
    try:
        asked = Asked.parse(f"{method} {url}", pairs, client)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    loaded = load_site(site, offline=offline)
    assumption = _assumption(assume, loaded.site) if assume is not None else None
    running = _ask_control(loaded) if live else None
    remark = running.remark(loaded) if running is not None else ""

    def show() -> tuple[str, int]:
        with Sandbox(loaded, running) as sandbox:
            if assumption is not None:
                sandbox.assume(assumption)
            found = sandbox.decide(asked)
        if wants_json():
            about = {"live": remark} if remark else {}
            return json.dumps({"request": str(asked), **about, **found}, indent=2, default=plain), 0
        return tree(asked, found, sandbox.site, remark), 0

    run_as_user(loaded, show, colour.steps, offline=offline)


def _pairs(headers: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and values of -H; ends the program if one is no header."""
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"-H {header}: expected NAME:VALUE, such as -H 'Accept: text/html'")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _explain_there(gateway: "Remote", request: str, headers: tuple[str, ...], client: str) -> None:
    """Let a gateway elsewhere explain a request; print what it says."""
    from loadagent.printable import printable_lines  # noqa: PLC0415

    found = ask_api(gateway, "POST", "/explain", {"request": request, "headers": _pairs(headers), "client": client})
    tell(colour.steps(fitted(printable_lines(str(found["text"])))), {"request": found["request"], **found["decision"]})


def _explain_dns(site: Path, question: tuple[str, str], client: str, *, live: bool, offline: bool) -> None:
    """Explain an answer of the name server; ends the program."""
    from gateway.balance.site_shares import SiteState, states_of  # noqa: PLC0415
    from gateway.dns import explain as names  # noqa: PLC0415
    from gateway.dns.table import Table  # noqa: PLC0415

    loaded = load_site(site, offline=offline)
    model = loaded.site.dns
    if model is None:
        raise click.UsageError(f"{site} has no dns section")
    states: dict[str, SiteState] = {}
    in_force: dict[str, Mapping[str, float]] = {}
    latencies: Mapping[str, Mapping[str, float]] = {}
    remark = ""
    if live:
        gateway = find_here(str(loaded.path))
        report = ask_control(gateway)
        states = states_of({name: asdict(state) for name, state in report.site_states.items()})
        latencies = report.dns.latencies if report.dns is not None else {}
        in_force = {one.name: one.shares for one in report.dns.names} if report.dns is not None else {}
        remark = f"states of sites as the running gateway ({gateway.pid}) knows them"

    if loaded.database is not None:
        loaded.database.open()  # the process that shows has no descriptors of this one

    def show() -> tuple[str, int]:
        table = Table.of(model, loaded.files, 1, database=loaded.database)
        table.latencies.use(latencies)
        try:
            found = names.decide(table, question, client, states, in_force)
        except ValueError as error:
            return str(error), 2
        if wants_json():
            return json.dumps({**found, **({"live": remark} if remark else {})}, indent=2), 0
        return names.text(found, remark), 0

    run_as_user(loaded, show, colour.steps, offline=offline)


def _assumption(text: str, site: "Site") -> "Assumption":
    """What --assume says; ends the program if it is wrong."""
    import yaml  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    from gateway.config.consistency import unknown_in_assumption  # noqa: PLC0415
    from gateway.config.expectation import Assumption  # noqa: PLC0415
    from gateway.config.explain import findings  # noqa: PLC0415

    try:
        assumed = Assumption.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        at = ("tests", 0, "assume")
        first = next(findings(error, at=at))
        where = [str(part) for part in first.loc[len(at) :]]
        raise click.UsageError(": ".join(("--assume", *filter(None, (".".join(where), first.message))))) from None
    except yaml.YAMLError:
        raise click.UsageError("--assume: this is not YAML: write it as '{live: 2000, ticket: queued}'") from None
    sites = {site.sites.self_, *site.sites.peers} if site.sites is not None else ()
    for finding in unknown_in_assumption(assumed, site, site.backends, sites):
        raise click.UsageError(f"--assume: {'.'.join(str(part) for part in finding.loc)}: {finding.message}")
    return assumed


def _ask_control(loaded: "Loaded") -> "Live":
    """What the gateway that runs this site knows; ends the program if there is none."""
    from gateway.explain.live import Live, NoAnswer  # noqa: PLC0415

    try:
        return Live.ask(loaded, find_here(str(loaded.path)).running)
    except NoAnswer as error:
        fail(str(error))

"""`gateway test`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from gateway.cli import colour
from gateway.cli.output import JSON, wants_json
from gateway.cli.sites import OFFLINE, SITE_FILE, load_site, run_as_user


@click.command()
@click.argument("site", type=SITE_FILE)
@OFFLINE
@JSON
def test(site: Path, *, offline: bool) -> None:
    """Run the tests of SITE without using the network; exit status 1 if one fails."""
    from gateway.explain import trial  # noqa: PLC0415

    loaded = load_site(site, offline=offline)

    def show() -> tuple[str, int]:
        verdicts = trial.run(loaded)
        failed = [verdict for verdict in verdicts if verdict.differences]
        if wants_json():
            return json.dumps({"tests": len(verdicts), "failed": list(map(asdict, failed))}, indent=2), bool(failed)
        lines = [trial.diff(verdict) for verdict in failed]
        lines.append(f"{len(failed)} of {len(verdicts)} tests failed" if failed else f"{len(verdicts)} tests passed")
        return "\n".join(lines), bool(failed)

    run_as_user(loaded, show, colour.tests, offline=offline)

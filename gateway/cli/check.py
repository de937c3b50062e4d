"""`gateway check`."""

from pathlib import Path

import click

from gateway.cli.output import JSON, LAST_GOOD, fail, tell
from gateway.cli.sites import OFFLINE, SITE_FILE, account_of, no_lookup, problem_json


@click.command()
@click.argument("site", type=SITE_FILE)
@OFFLINE
@JSON
def check(site: Path, *, offline: bool) -> None:
    """Check SITE and report every problem; exit status 1 if there is one.

    The exit status is 3 if there is one and `gateway run` would start with the last good configuration.
    """
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.explain.required import require  # noqa: PLC0415
    from gateway.hardening import account  # noqa: PLC0415
    from gateway.supervisor import last_good  # noqa: PLC0415
    from gateway.supervisor.startup_lookup import addresses  # noqa: PLC0415

    try:
        loaded = load(site, no_lookup if offline else addresses, offline=offline)
        require(loaded, account_of(loaded, offline=offline))
    except ConfigError as error:
        problems = [problem_json(problem) for problem in error.problems]
        try:
            kept = last_good.find(site)
        except last_good.NoCopy:
            fail(str(error), {"ok": False, "problems": problems, "last_good": None})
        changes = last_good.changes(kept.saved, site)
        about = {"path": str(kept.path), "at": kept.at, "changes": changes}
        what = f"`gateway run` would start with the last good configuration, of {kept.when}, from {kept.path}"
        data = {"ok": False, "problems": problems, "last_good": about}
        fail(f"{error}\n{what}; changed since:\n{changes}", data, LAST_GOOD)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    if not offline and (shared := account.doubt(loaded.site.user)):
        click.echo(f"{site}: warning: {shared}", err=True)
    model = loaded.site
    counts = {
        "frontends": len(model.frontends),
        "backends": len(model.backends),
        "servers": sum(len(backend.servers) for backend in model.backends.values()),
        "routes": len(model.routes),
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items())
    tell(f"{site}: ok ({text})", {"ok": True, "problems": [problem_json(each) for each in loaded.warnings], **counts})

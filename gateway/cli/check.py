"""`gateway check`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli import colour
from gateway.cli.gateways import ask_api, elsewhere, remote
from gateway.cli.output import JSON, LAST_GOOD, complain, fail, fitted, tell
from gateway.cli.sites import OFFLINE, SITE_FILE, account_of, no_lookup, problem_json

if TYPE_CHECKING:
    from gateway.cli.remote import Remote


@click.command()
@click.argument("site", type=SITE_FILE)
@OFFLINE
@remote
@JSON
def check(site: Path, *, offline: bool) -> None:
    """Check SITE and report every problem; exit status 1 if there is one.

    The exit status is 3 if there is one and `gateway run` would start with the last good configuration. With --admin,
    that gateway checks SITE in the place of the one that it uses, with the files there, runs its tests, and shows the
    difference; keys and certificates are not looked at.
    """
    if (other := elsewhere()) is not None:
        _check_there(other, site)
        return
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
        complain(str(warning))
    if not offline and (shared := account.doubt(loaded.site.user)):
        complain(f"{site}: warning: {shared}")
    model = loaded.site
    counts = {
        "frontends": len(model.frontends),
        "backends": len(model.backends),
        "servers": sum(len(backend.servers) for backend in model.backends.values()),
        "routes": len(model.routes),
    }
    text = ", ".join(f"{count} {what[:-1] if count == 1 else what}" for what, count in counts.items())
    found = {"ok": True, "problems": [problem_json(each) for each in loaded.warnings], **counts}
    tell(colour.good(f"{site}: ok ({text})"), found)


def _check_there(gateway: "Remote", site: Path) -> None:
    """Let a gateway elsewhere check a site file; ends the program if it has errors, or a test fails."""
    from gateway.config import ConfigError  # noqa: PLC0415
    from gateway.config.loader import text_of  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    try:
        text = text_of(site)
    except ConfigError as error:
        fail(str(error))
    found = ask_api(gateway, "POST", "/check", {"text": text})
    lines = [f"{site}:{one['line']}:{one['column']}: {one['severity']}: {one['message']}" for one in found["problems"]]
    failed = [one for one in found["tests"] if not one["passed"]]
    lines += [f"{site}:{one['line']}: test {one['request']} fails: {one['why']}" for one in failed]
    if not found["ok"] or failed:
        fail("\n".join(lines), found)
    verdict = f"{site}: ok at {gateway} ({len(found['tests'])} tests pass)"
    differs = found["diff"] or "no difference from the file in use"
    shown = [colour.problems(fitted(printable_lines("\n".join(lines))))] if lines else []
    shown += [colour.differences(printable_lines(differs)), colour.good(printable_lines(verdict))]
    tell("\n".join(shown), found)

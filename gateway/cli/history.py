"""`gateway history`: the configurations that a gateway has run by."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.gateways import complete_gateway, find, order
from gateway.cli.output import JSON, complain, fail, tell
from gateway.cli.reload import RELOAD_LIMIT
from gateway.cli.sites import problem_json

if TYPE_CHECKING:
    from gateway.supervisor.history import Version
    from gateway.system.running import Running

SITE_OPTION = click.option(
    "-g",
    "--gateway",
    "target",
    metavar="SITE|PID|PIDFILE",
    shell_complete=complete_gateway,
    help="The gateway, which need not run if it is named by its site file; default: the only one that runs.",
)


@click.group(invoke_without_command=True)
@click.pass_context
def history(context: click.Context) -> None:
    """Show the configurations that a gateway has run by, compare them, and go back to one; alone it lists them.

    The supervisor keeps a copy in the directory `state` whenever a start, reload or upgrade puts another configuration
    into force: the last 50, together at most 128 MiB. Keys, tokens and certificates are not copied.
    """
    if context.invoked_subcommand is None:
        context.invoke(show_list, target=None)


@history.command("list")
@SITE_OPTION
@JSON
def show_list(target: str | None) -> None:
    """List the versions: number, since when, what put it into force, and its digest."""
    from gateway.supervisor.history import repeats  # noqa: PLC0415

    site, _ = _site(target)
    versions = _versions(site)
    lines, said = [], []
    for version, same in zip(versions, repeats(versions), strict=True):
        note = f"  same as {same}" if same is not None else ""
        lines.append(f"{version.number:>6}  {version.when}  {version.by:<22}{version.digest[:12]}{note}")
        said.append({**_about(version), "same_as": same})
    tell("\n".join(lines), {"site": str(site), "versions": said})


@history.command("show")
@click.argument("number", type=int)
@SITE_OPTION
@JSON
def show_one(number: int, target: str | None) -> None:
    """Print the site file of a version."""
    site, _ = _site(target)
    version = _version(site, number)
    tell(version.saved.text.rstrip("\n"), {**_about(version), "text": version.saved.text})


@history.command()
@click.argument("before", type=int)
@click.argument("after", type=int, required=False)
@SITE_OPTION
@JSON
def diff(before: int, after: int | None, target: str | None) -> None:
    """Show the lines that differ between two versions, or between one and the files as they are now.

    Lines with - are of version BEFORE, those with + of AFTER or of the files. It compares the site file and all files
    that it names, but for secrets.
    """
    from gateway.supervisor import last_good  # noqa: PLC0415

    site, _ = _site(target)
    one = _version(site, before)
    if after is None:
        changes = last_good.changes(one.saved, site)
    else:
        changes = last_good.differences(one.saved, _version(site, after).saved, site)
    tell(changes or "no difference", {"before": before, "after": after, "changes": changes})


@history.command()
@click.argument("number", type=int)
@SITE_OPTION
@JSON
def apply(number: int, target: str | None) -> None:
    """Go back to a version: write its files over those that are there now, and reload.

    First the version is checked as `gateway check` does. A file that is overwritten is kept beside it with the suffix
    .replaced. The exit status is 1 if the version has a mistake by now, or if the gateway refuses it.
    """
    site, gateway = _site(target)
    version = _version(site, number)
    _check(site, version)
    replaced = [str(path) for path in _write(site, version)]
    said = {**_about(version), "replaced": replaced}
    for path in replaced:
        complain(f"{path} is as in version {number} now; what was there is {path}.replaced")
    if gateway is None:
        tell(f"{site} is version {number} of {version.when} again; no gateway runs with it", {**said, "version": None})
        return
    answer = order(gateway, "reload", RELOAD_LIMIT)
    if not answer["accepted"]:
        fail(f"the gateway refused it; keeping version {answer['version']}:\n{answer['problems']}", said)
    text = f"ROLLED BACK: {site} is version {number} of {version.when} again, and the gateway runs by it"
    tell(text, {**said, "version": answer["version"]})


def _site(target: str | None) -> "tuple[Path, Running | None]":
    """The site file that is meant, and the gateway that runs with it, if one does."""
    from gateway.system import running  # noqa: PLC0415

    try:
        gateway = running.find(target)
    except running.NotFound:
        if target is None or target.isdigit() or not Path(target).exists():
            find(target)  # which says what runs, and ends the program
        return Path(os.path.realpath(str(target))), None
    return gateway.site, gateway


def _versions(site: Path) -> "list[Version]":
    from gateway.supervisor import history as kept  # noqa: PLC0415

    try:
        return kept.find(site)
    except kept.NoVersion as error:
        fail(str(error))


def _version(site: Path, number: int) -> "Version":
    versions = _versions(site)
    found = next((version for version in versions if version.number == number), None)
    if found is None:
        fail(f"there is no version {number}: the history has {versions[0].number} to {versions[-1].number}")
    return found


def _about(version: "Version") -> dict[str, Any]:
    return {
        "number": version.number,
        "at": version.at,
        "by": version.by,
        "digest": version.digest,
        "program": version.program,
    }


def _check(site: Path, version: "Version") -> None:
    """End the program if the version cannot be used any more, such as for want of a certificate."""
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.supervisor.startup_lookup import addresses  # noqa: PLC0415

    try:
        load(site, addresses, saved=version.saved)
    except ConfigError as error:
        problems = [problem_json(problem) for problem in error.problems]
        fail(f"version {version.number} cannot be used now; nothing was changed:\n{error}", {"problems": problems})
    differ = [name for name, value in version.saved.variables.items() if os.environ.get(name, value) != value]
    if differ:
        complain(f"warning: these environment variables had other values then: {', '.join(sorted(differ))}")


def _write(site: Path, version: "Version") -> list[Path]:
    """Write what differs; the files that were written. Ends the program if that fails."""
    files: Mapping[Path, bytes] = {
        **{path: bytes(content) for path, content in version.saved.files.items()},
        site: version.saved.text.encode(),
    }
    written = []
    for path, content in files.items():  # the site file last: it names the others
        try:
            if _replace(path, content):
                written.append(path)
        except OSError as error:
            done = f"; these are of version {version.number} now: {', '.join(map(str, written))}" if written else ""
            fail(f"cannot write {path}: {(error.strerror or str(error)).lower()}{done}; nothing was reloaded")
    return written


def _replace(path: Path, content: bytes) -> bool:
    """Replace one file, whose owner and mode stay; whether it differed."""
    from gateway.supervisor.last_good import LIMIT  # noqa: PLC0415
    from gateway.system import regular_file  # noqa: PLC0415

    path = Path(os.path.realpath(path))
    try:
        now, status = regular_file.read(path, LIMIT + 1)
    except FileNotFoundError:
        regular_file.replace(path, content, 0o600, durable=True)
        return True
    if now == content:
        return False
    if len(now) > LIMIT:
        raise OSError(f"it is larger than {LIMIT} bytes, so it cannot be kept")
    regular_file.replace(path.with_name(f"{path.name}.replaced"), now, status.st_mode & 0o777)
    regular_file.update(path, content)
    return True

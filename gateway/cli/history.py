"""`gateway history`: the configurations that a gateway has run by."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.gateways import ABOUT_LIMIT, Local, ask_api, elsewhere, find_here, gateway_option, order
from gateway.cli.output import JSON, complain, fail, tell
from gateway.cli.reload import RELOAD_LIMIT
from gateway.cli.sites import problem_json
from loadagent.printable import printable_lines

if TYPE_CHECKING:
    from gateway.cli.history_files import Replaced
    from gateway.cli.remote import Remote
    from gateway.supervisor.history import Version

T = TypeVar("T")


SITE_OPTION = gateway_option(
    "The gateway, which need not run if it is named by its site file; default: the only one that runs."
)
"""The gateway whose history it is."""


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
    """List the versions: number, since when, what put it into force, its digest, and whether it is in force now."""
    from gateway.config.units import clock_text  # noqa: PLC0415
    from gateway.supervisor import history as kept  # noqa: PLC0415

    if (other := elsewhere(target)) is not None:
        where, versions = str(other), ask_api(other, "GET", "/history")["versions"]
    else:
        site, gateway = _site(target)
        where, versions = str(site), _kept(kept.listing, site, _in_force(gateway))
    lines = []
    for one in versions:
        notes = [f"same as {one['same_as']}"] if one["same_as"] is not None else []
        notes += ["in force"] if one.get("in_force") else []  # which a gateway of before does not say
        line = f"{one['number']:>6}  {clock_text(one['at'])}  {one['by']:<22}{one['digest'][:12]}  {', '.join(notes)}"
        lines.append(line.rstrip())
    tell(printable_lines("\n".join(lines)), {"site": where, "versions": versions})


@history.command("show")
@click.argument("number", type=int)
@SITE_OPTION
@JSON
def show_one(number: int, target: str | None) -> None:
    """Print the site file of a version."""
    found = _shown(number, target)
    tell(printable_lines(found["text"].rstrip("\n")), found)


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
    from gateway.supervisor import history as kept  # noqa: PLC0415

    if (other := elsewhere(target)) is not None:
        found = ask_api(other, "POST", "/history/diff", {"before": before, "after": after})
    else:
        site, _ = _site(target)
        found = _kept(kept.compared, site, before, after)
    tell(printable_lines(found["changes"] or "no difference"), found)


@history.command()
@click.argument("number", type=int)
@SITE_OPTION
@JSON
def apply(number: int, target: str | None) -> None:
    """Go back to a version: write its files over those that are there now, and reload.

    First the version is checked as `gateway check` does. What a file had is kept beside it with the suffix .replaced
    (.replaced.2, and so on: no copy is overwritten), unless a version of the history has it. The exit status is 1 if
    the version has a mistake by now, or if the gateway refuses it; then the files are as before. With --admin only the
    site file is written: the exit status is 1 as well if other files of that version have changed since.
    """
    from gateway.cli import history_files  # noqa: PLC0415
    from gateway.supervisor import history as kept  # noqa: PLC0415

    if (other := elsewhere(target)) is not None:
        _apply_there(other, number)
        return
    site, gateway = _site(target)
    versions = _kept(kept.find, site)
    version = _kept(kept.chosen, versions, number)
    _check(site, version)
    try:
        done = history_files.write(site, version, versions)
    except history_files.NotWritten as error:
        fail(f"{error}; nothing was reloaded")
    said = {
        **kept.about(version),
        "replaced": [str(one.path) for one in done],
        "copies": [str(one.copy) for one in done if one.copy is not None],
    }
    answer = _reload(gateway, done, said) if gateway is not None else {"version": None, "history": None}
    for one in done:
        complain(f"{one.path} is as in version {number} now; {one}")
    again = f"{site} is version {number} of {version.when} again"
    text = (
        f"{again}; no gateway runs with it" if gateway is None else f"ROLLED BACK: {again}, and the gateway runs by it"
    )
    tell(text, {**said, "version": answer["version"], "history": answer.get("history")})


def _reload(gateway: Local, done: "list[Replaced]", said: dict[str, Any]) -> dict[str, Any]:
    """Let the gateway take up the files; if it refuses them they are as before, and the program ends."""
    from gateway.cli import history_files  # noqa: PLC0415
    from gateway.config.units import version_text  # noqa: PLC0415
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.order("reload", RELOAD_LIMIT)
    except NoAnswer as error:  # it may work by them by now
        fail(f"{error}; the files are those of version {said['number']}: see `gateway status`", said)
    if not answer.get("accepted"):
        files = history_files.take_back(done)
        why = answer.get("error")
        if why is None:
            why = f"it keeps {version_text(answer['version'], answer.get('history'))}:\n{answer['problems']}"
        fail(f"the gateway refused it; {files}; {why}", {**said, "replaced": [], "copies": []})
    return answer


def _apply_there(gateway: "Remote", number: int) -> None:
    """Let a gateway elsewhere use the site file of a version; ends the program if it does not."""
    found = ask_api(gateway, "POST", "/history/show", {"number": number})
    if found["differing"]:
        files = ", ".join(found["differing"])
        fail(f"nothing was changed: these files are not as they were in version {number}: {files}; "
             "give the command on the gateway's machine")  # fmt: skip
    answer = ask_api(gateway, "POST", "/apply", {"text": found["text"]})
    said = {key: found[key] for key in ("number", "at", "by", "digest", "program")}
    text = f"ROLLED BACK: {gateway} runs by version {number} again"
    tell(text, {**said, "replaced": [], "copies": [], "version": answer["version"], "history": answer.get("history")})


def _shown(number: int, target: str | None) -> dict[str, Any]:
    from gateway.supervisor import history as kept  # noqa: PLC0415

    if (other := elsewhere(target)) is not None:
        return ask_api(other, "POST", "/history/show", {"number": number})
    site, _ = _site(target)
    return _kept(kept.shown, site, number)


def _site(target: str | None) -> tuple[Path, Local | None]:
    """The site file that is meant, and the gateway that runs with it, if one does."""
    from gateway.system import running  # noqa: PLC0415

    try:
        gateway = Local(running.find(target))
    except running.NotFound:
        if target is None or target.isdigit() or not Path(target).exists():
            find_here(target)  # which says what runs, and ends the program
        return Path(os.path.realpath(str(target))), None
    return gateway.site, gateway


def _in_force(gateway: Local | None) -> int | None:
    """The number of the version by which a gateway runs; None: it is in no history, or no gateway runs."""
    if gateway is None:
        return None
    number = order(gateway, "about", ABOUT_LIMIT)["last_reload"].get("history")
    return number if isinstance(number, int) else None


def _kept(look: Callable[..., T], *arguments: object) -> T:
    """What a function of the history returns; ends the program if there is no such version."""
    from gateway.supervisor.history import NoVersion  # noqa: PLC0415

    try:
        return look(*arguments)
    except NoVersion as error:
        fail(str(error))


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

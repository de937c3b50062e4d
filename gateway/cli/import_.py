"""`gateway import`."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.output import JSON, complain, fail, tell

if TYPE_CHECKING:
    from gateway.importing.draft import Draft


ADMITS_MORE: Final = 3
"""Exit status where the site file admits requests that the configuration refuses."""


@click.command("import")
@click.argument("configuration", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("site.yaml"), help="The site file to write."
)
@click.option(
    "--from",
    "kind",
    type=click.Choice(["haproxy", "nginx"]),
    help="What CONFIGURATION is of. Default: by its name and its first lines.",
)
@JSON
def import_(configuration: Path, output: Path, kind: str | None) -> None:
    """Make a site file of CONFIGURATION, of HAProxy or nginx, and report what became of each line.

    Each line is taken over, approximated (the report says how), not needed, or not possible (why, and what to do
    instead). The site file has tests, and maps, pages and users are written beside it; nothing is overwritten.
    Exit status 3: lines that refuse requests are left out; 1: nothing was written, or the site file has a mistake.
    """
    from gateway.importing import haproxy, nginx  # noqa: PLC0415
    from gateway.importing.report import BadInput  # noqa: PLC0415
    from gateway.importing.writer import write  # noqa: PLC0415

    try:
        of_nginx = kind == "nginx" if kind is not None else nginx.looks_like(configuration)
        draft = nginx.draft_of(configuration) if of_nginx else haproxy.draft_of(configuration)
        text, wrong = _checked(draft, output)
        write(draft, text, output)
    except BadInput as error:
        fail(str(error))
    except FileExistsError as error:
        fail(f"{error.filename} exists, and is not overwritten: choose another directory (-o DIRECTORY/site.yaml)")
    except OSError as error:
        fail(f"{error.filename or output}: {(error.strerror or str(error)).lower()}")
    written = [str(output), *(str(output.parent / name) for name in draft.files)]
    said = f"{draft.report.text()}\nwritten: {', '.join(written)}"
    lost = draft.report.admits_more()
    data = {"written": written, "counts": draft.report.counts(), "lines": draft.report.data()}
    data |= {"admits_more": [str(line) for line in lost]}
    tell(said, {**data, "error": wrong} if wrong else data)
    if wrong:
        complain(f"{output} is not valid yet; correct it before it is used, and report this:\n{wrong}")
        sys.exit(1)
    if lost:
        sys.exit(ADMITS_MORE)


def _checked(draft: "Draft", output: Path) -> tuple[str, str]:
    """The text of the site file with the tests that hold, and what is wrong with it as a whole, if anything is.

    Raises BadInput.
    """
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.explain import trial  # noqa: PLC0415
    from gateway.importing.trials import kept, trials  # noqa: PLC0415
    from gateway.importing.valid import prune  # noqa: PLC0415
    from gateway.importing.writer import site_text, write  # noqa: PLC0415

    prune(draft)
    tests = trials(draft.site())
    with tempfile.TemporaryDirectory(prefix="gateway-import-") as directory:
        site = Path(directory, "site.yaml")
        write(draft, site_text(draft, tests), site)
        try:
            from gateway.cli.sites import no_lookup  # noqa: PLC0415

            loaded = load(site, no_lookup, offline=True)
        except ConfigError as error:
            return site_text(draft, tests), str(error).replace(str(site), str(output))
        failed = {verdict.index for verdict in trial.run(loaded) if verdict.differences}
    rest: list[dict[str, Any]] = list(kept(tests, failed))
    return site_text(draft, rest), ""

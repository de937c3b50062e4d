"""Reads a configuration of nginx, with what it includes, by crossplane."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

import crossplane

from gateway.importing.haproxy_lines import read
from gateway.importing.hidden import without_secrets
from gateway.importing.report import BadInput, Line, Report


@dataclass(slots=True)
class Directive:
    """A directive with its arguments, and what stands in its braces."""

    line: Line
    name: str
    args: list[str]
    block: list["Directive"] = field(default_factory=list)

    def all(self, *names: str) -> Iterator["Directive"]:
        """What stands directly in its braces, of these names."""
        return (each for each in self.block if each.name in names)

    def last(self, name: str) -> "Directive | None":
        """The last one of a name."""
        found = list(self.all(name))
        return found[-1] if found else None


def tree(path: Path, report: Report) -> Directive:
    """The whole configuration as one block. Raises BadInput."""
    top = Directive(Line(path, 0, path.name), "", [], [])
    top.block = list(_directives((path,), report))
    return top


def _directives(files: tuple[Path, ...], report: Report) -> Iterator[Directive]:
    """The directives of the last file, included ones in place; the others are those that it is included by."""
    path = files[-1]
    read(path)  # which refuses what is no text
    parsed = crossplane.parse(str(path), comments=False, check_ctx=False, single=True)
    for error in parsed["errors"]:
        text = str(error["error"]).rpartition(" in ")[0] or "is no configuration of nginx"
        if "recursion" in str(error["error"]):
            text = "has too many blocks in blocks"
        raise BadInput(path, int(error["line"] or 0), text)
    yield from _block(files, parsed["config"][0]["parsed"], report)


def _block(
    files: tuple[Path, ...], items: list[dict[str, Any]], report: Report, source: str = ""
) -> Iterator[Directive]:
    """The directives of a block; of a map, `source` is the variable that it looks at."""
    for item in items:
        words = [str(word) for word in item["args"]]
        line = Line(files[-1], int(item["line"]), without_secrets([item["directive"], *words], source)[:200])
        if item["directive"] == "include":
            yield from _included(files, line, words, report)
            continue
        looks_at = words[0] if item["directive"] == "map" and words else ""
        block = list(_block(files, item.get("block", []), report, looks_at)) if "block" in item else []
        yield Directive(line, item["directive"], words, block)


def _included(files: tuple[Path, ...], line: Line, words: list[str], report: Report) -> Iterator[Directive]:
    """The directives of what a line includes; names are relative to the directory of the first file."""
    wanted = files[0].parent / words[0]
    found = sorted(Path(name) for name in glob(str(wanted)))  # noqa: PTH207 - the name may be absolute
    if not found:
        _nothing_included(line, wanted, report)
        return
    report.taken(line)
    for path in found:
        if path.resolve() in (each.resolve() for each in files):
            raise BadInput(line.path, line.number, f"{path} includes itself")
        if not path.is_file():
            raise BadInput(line.path, line.number, f"{path} is no file")
        yield from _directives((*files, path), report)


def _nothing_included(line: Line, path: Path, report: Report) -> None:
    """Say what it means that no file was there."""
    if path.name == "mime.types":
        report.needless(line, "types belong to servers of files")
    elif path.parent.is_dir() and "*" in path.name:
        report.needless(line, "there is no such file, which nginx takes as well")
    else:
        report.impossible(line, f"{path} is not here: run the import where it is, or copy it to there")

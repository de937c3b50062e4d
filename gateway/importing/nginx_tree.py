"""Reads a configuration of nginx, with what it includes, by crossplane."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crossplane

from gateway.importing.haproxy_lines import read
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
    read(path)  # which refuses what is no text
    parsed = crossplane.parse(str(path), comments=False, check_ctx=False)
    missing: set[tuple[str, int]] = set()
    for error in parsed["errors"]:
        file, line = Path(error["file"]), int(error["line"] or 0)
        text = str(error["error"]).rpartition(" in ")[0] or str(error["error"])
        if text.startswith("[Errno"):
            if file == path and not line:
                raise BadInput(path, 0, "cannot be read")
            missing.add((str(file), line))
        else:
            raise BadInput(file, line, text)
    files = parsed["config"]
    top = Directive(Line(path, 0, path.name), "", [], [])
    top.block = list(_directives(files, files[0], report, missing))
    return top


def _directives(
    files: list[dict[str, Any]], file: dict[str, Any], report: Report, missing: set[tuple[str, int]]
) -> Iterator[Directive]:
    """The directives of a file, included ones in place."""
    yield from _block(files, file["file"], file["parsed"], report, missing)


def _block(
    files: list[dict[str, Any]], name: str, items: list[dict[str, Any]], report: Report, missing: set[tuple[str, int]]
) -> Iterator[Directive]:
    for item in items:
        words = [str(word) for word in item["args"]]
        line = Line(Path(name), int(item["line"]), " ".join([item["directive"], *words])[:200])
        if item["directive"] == "include":
            found = [files[number] for number in item.get("includes", [])]
            if (name, line.number) in missing or not found:
                _nothing_included(line, Path(files[0]["file"]).parent / words[0], report)
                continue
            report.taken(line)
            for each in found:
                yield from _directives(files, each, report, missing)
            continue
        block = list(_block(files, name, item.get("block", []), report, missing)) if "block" in item else []
        yield Directive(line, item["directive"], words, block)


def _nothing_included(line: Line, path: Path, report: Report) -> None:
    """Say what it means that no file was there."""
    if path.name == "mime.types":
        report.needless(line, "types belong to servers of files")
    elif path.parent.is_dir() and "*" in path.name:
        report.needless(line, "there is no such file, which nginx takes as well")
    else:
        report.impossible(line, f"{path} is not here: run the import where it is, or copy it to there")

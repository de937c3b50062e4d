"""Maps: files of keys and values that rules look up, and the tables made of them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, Strict, WithJsonSchema, model_validator

from gateway.config.fields import File, Given, HeaderValue, Model, Text, named
from gateway.config.file_stamp import Stamp, Stamps, stamp, stamp_of
from gateway.config.map_table import MAX_BYTES, MapFaults, MapTable, build
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault
from gateway.system import regular_file

if TYPE_CHECKING:
    from gateway.config.model import Site

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

MAXMIND: Final = "dns.maxmind_file"
"""Among the names of maps: the MaxMind file of the name server, which is taken up in the same way."""

Tables: TypeAlias = Mapping[str, MapTable]
"""By the names of their maps."""

MapName: TypeAlias = Annotated[
    str,
    Strict(),
    named(NAME, "the name of a map is 1 to 64 letters, digits and _ -"),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
]


class MapFile(Model):
    """A file of keys and values that rules look up."""

    shorthand: ClassVar = {"type": "string", "description": "The file; its keys are exact."}

    file: File = Field(description="File with the entries; taken up again when it changes.")
    format: Literal["text", "csv"] = Field(
        default_factory=lambda data: "csv" if data["file"].suffix.lower() == ".csv" else "text",
        description="text: a line has a key, blanks and a value, # begins a comment; csv: columns between commas "
        "(RFC 4180). Default: csv if the file's name ends with .csv, else text.",
    )
    keys: Literal["exact", "prefix", "host", "network", "regex"] = Field(
        "exact",
        description="What a key matches: exact (the same text), prefix (text that begins with it; the longest one "
        "counts), host (a host name, or *.NAME for every host below; the longest one counts), network (addresses; the "
        "smallest one counts), regex (text that it matches somewhere; the first one in the file counts).",
    )
    key: Annotated[Text | None, Given()] = Field(
        None, description="Column of the keys, by its name in the first line (csv only). Default: the first."
    )
    value: Annotated[Text | None, Given()] = Field(
        None, description="Column of the values, by its name in the first line (csv only). Default: the next one."
    )
    default: Annotated[HeaderValue | None, Given()] = Field(
        None,
        description="Value where no key matches. Default: none; templates get an empty text, and an expression is "
        "unknown.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_columns(self) -> "MapFile":
        for name in ("key", "value"):
            if self.format != "csv" and getattr(self, name) is not None:
                raise Fault(f"{name} needs format: csv: a text file has no columns", name, key=True)
        return self


def read(path: Path) -> tuple[bytes, Stamp]:
    """The content of a map's file, and its stamp. Raises OSError, ValueError."""
    content, status = regular_file.read(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20}MiB")
    return content, stamp(status)


def table(model: MapFile, content: bytes) -> MapTable:
    """The table of a file's content. Raises MapFaults, OSError."""
    made = build(content, model.keys, is_csv=model.format == "csv", key=model.key, value=model.value)
    if model.keys == "regex":
        faults = []
        for number, (key, _) in enumerate(made.items()):
            try:
                Pattern(key.decode("latin-1"))
            except Fault as fault:
                faults.append((made.line_of(number), str(fault)))
        if faults:
            raise MapFaults(faults)
    return made


def stamps(site: "Site") -> Stamps:
    """The stamps of the files of a site's maps, and of its MaxMind file, without opening any."""
    files = [model.file for model in site.maps.values()]
    if site.dns is not None and site.dns.maxmind_file is not None:
        files.append(site.dns.maxmind_file)
    return {str(file): stamp_of(file) for file in files}

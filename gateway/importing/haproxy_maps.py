"""Maps of HAProxy: files of keys and values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gateway.importing.report import NotPossible

_KEYS: Final = {"": "exact", "str": "exact", "beg": "prefix", "reg": "regex", "ip": "network", "dom": "host"}
LONGEST: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MapText:
    """A map: its name, what its keys match, its lines, and what stands for a key that it does not have."""

    name: str
    keys: str
    pairs: tuple[tuple[str, str], ...]
    default: str | None

    @classmethod
    def read(cls, converter: str, values: str, directory: Path) -> Self:
        """The map of a converter such as `map_beg(FILE,default)`. Raises NotPossible."""
        kind = converter.removeprefix("map").strip("_").split("_")[0]
        file, _, default = values.partition(",")
        if kind not in _KEYS:
            raise NotPossible(f"{converter} has no counterpart: maps match exact, prefix, host, network or regex")
        path = directory / file
        try:
            if path.stat().st_size > LONGEST:
                raise NotPossible(f"the map {path} is too long: at most 128 MiB")
            text = path.read_text("utf-8", "replace")
        except OSError as error:
            raise NotPossible(f"the map {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        pairs: dict[str, str] = {}
        for line in text.splitlines():
            words = line.strip().split(None, 1)
            if words and not words[0].startswith("#"):
                pairs.setdefault(words[0], words[1].strip() if len(words) > 1 else "")
        if _KEYS[kind] == "host":  # a domain is found with everything below it
            pairs |= {f"*.{key}": value for key, value in pairs.items() if not key.startswith("*.")}
        return cls(path.stem, _KEYS[kind], tuple(pairs.items()), default or None)

    @property
    def content(self) -> str:
        """The lines of the file."""
        return "".join(f"{key}\t{value}\n" for key, value in self.pairs)

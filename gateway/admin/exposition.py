"""The text format of Prometheus, version 0.0.4. Pure.

Our own thirty lines: with the client library each figure would be an object first, and `gateway status --metrics`
would load it all. What comes out is read by the library's parser in the tests.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Kind = Literal["gauge", "counter"]
Sample = tuple[str, float | None]
"""Labels as `labels` writes them, and the figure; None: there is none."""


class Family(NamedTuple):
    """One metric, for the sake of all its samples."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[Sample]


def labels(**values: str) -> str:
    """Labels as they stand behind the name of a metric."""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in values.items()) + "}"


def text(families: Iterable[Family]) -> str:
    """The whole page; a family without samples is left out."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    found = [f"{family.name}{labels} {_figure(value)}" for labels, value in family.samples if value is not None]
    if found:
        yield f"# HELP {family.name} {family.help}"
        yield f"# TYPE {family.name} {family.kind}"
        yield from found


def _figure(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))

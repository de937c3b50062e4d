"""The text format of Prometheus, version 0.0.4. Pure.

Written here because the client library would create an object per figure, and `gateway status --metrics` would have to
load all of it. The tests parse the output with the library's parser.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from loadagent.printable import printable

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\""})

Kind = Literal["gauge", "counter", "histogram"]
Sample = tuple[str, float | None]
"""Labels as `labels` writes them, and the value; None: no value. Labels of a histogram begin with a suffix."""


class Family(NamedTuple):
    """One metric with all its samples."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[Sample]


def labels(**values: str) -> str:
    """Labels as they follow the name of a metric, without terminal control characters."""
    return "{" + ",".join(f'{name}="{printable(value).translate(_ESCAPED)}"' for name, value in values.items()) + "}"


def histogram(bounds: Sequence[float], cells: Sequence[int], total: float, **values: str) -> Iterator[Sample]:
    """The samples of one histogram. `cells`: counts up to each of `bounds`, and beyond the last; `total`: the sum."""
    ends = [*map(repr, bounds), "+Inf"]
    for end, count in zip(ends, accumulate(cells), strict=True):
        yield "_bucket" + labels(**values, le=end), count
    yield "_sum" + labels(**values), total
    yield "_count" + labels(**values), sum(cells)


def text(families: Iterable[Family]) -> str:
    """The whole page; families without samples are omitted."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    found = [f"{family.name}{labels} {_figure(value)}" for labels, value in family.samples if value is not None]
    if found:
        yield f"# HELP {family.name} {family.help}"
        yield f"# TYPE {family.name} {family.kind}"
        yield from found


def _figure(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))

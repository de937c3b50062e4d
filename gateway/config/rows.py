"""Assigns the rows of a table of the board to owners. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")


class CapacityError(Exception):
    """There are more owners than rows."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[K]):
    """The rows from 0 to `capacity`, some of them assigned to owners."""

    what: str
    """The owners, in the plural: for the error."""
    capacity: int
    of: Mapping[K, int] = field(default_factory=dict)
    unused: int = 0
    """The first row that was never used; all above it are unused, too."""
    freed: tuple[int, ...] = ()
    """Freed rows, oldest first."""

    def next(self, wanted: Collection[K], kept: Collection[K]) -> "Rows[K]":
        """Rows for `wanted`; of those, `kept` keep theirs. Raises CapacityError.

        A process may still write to a freed row, which must not affect a new owner: rows never used are assigned first,
        and the most recently freed ones last.
        """
        stay = {owner: row for owner, row in self.of.items() if owner in kept}
        left = tuple(row for owner, row in self.of.items() if owner not in kept)
        rows = (*range(self.unused, self.capacity), *self.freed, *left)
        new = [owner for owner in wanted if owner not in stay]
        if len(new) > len(rows):
            message = f"{len(wanted)} {self.what} exceed the gateway's capacity of {self.capacity}"
            raise CapacityError(message)
        return Rows(
            what=self.what,
            capacity=self.capacity,
            of={**stay, **dict(zip(new, rows, strict=False))},
            unused=min(self.unused + len(new), self.capacity),
            freed=tuple(row for row in rows[len(new) :] if row < self.unused),
        )

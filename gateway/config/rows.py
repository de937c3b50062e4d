"""Who has which row in a table of the board. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")


class CapacityError(Exception):
    """There are more owners than rows for them."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[K]):
    """The rows from 0 to `capacity`, some of them given to owners."""

    what: str
    """Whose rows these are, in the plural: for the error."""
    capacity: int
    of: Mapping[K, int] = field(default_factory=dict)
    unused: int = 0
    """The first row that was never used; so are all above it."""
    freed: tuple[int, ...] = ()
    """Rows given back, longest ago first."""

    def next(self, wanted: Collection[K], kept: Collection[K]) -> "Rows[K]":
        """Rows for `wanted`; of those, `kept` go on with what they have. Raises CapacityError.

        Somebody may still write to a row given back, and that must not count for a new owner before it has to: rows
        never used go first, and those just given back last.
        """
        stay = {owner: row for owner, row in self.of.items() if owner in kept}
        left = tuple(row for owner, row in self.of.items() if owner not in kept)
        rows = (*range(self.unused, self.capacity), *self.freed, *left)
        new = [owner for owner in wanted if owner not in stay]
        if len(new) > len(rows):
            message = f"{len(wanted)} {self.what}, and the gateway has room for {self.capacity}"
            raise CapacityError(message)
        return Rows(
            what=self.what,
            capacity=self.capacity,
            of={**stay, **dict(zip(new, rows, strict=False))},
            unused=min(self.unused + len(new), self.capacity),
            freed=tuple(row for row in rows[len(new) :] if row < self.unused),
        )

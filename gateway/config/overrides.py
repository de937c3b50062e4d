"""What commands of an operator have set for servers, backends and this gateway, over the site file. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

AdminState: TypeAlias = Literal["ready", "drain", "maintenance"]

NODE: Final = "/"
"""The target that is this gateway; no backend can be called so."""
SITE: Final = "/site/"
"""Before the name of a site: the target that is the whole site. `drain` evacuates it."""
MOST: Final = 4096
"""Targets that may have an override."""
WEIGHTS: Final = range(1, 257)


class TooMany(ValueError):
    """There are overrides for too many targets; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Override:
    """What is set for one target; None: nothing.

    `overrules` is the admin state of the agent that `ready` overrules, until the agent reports another one. `since`: of
    the last command, in seconds since 1970.
    """

    state: AdminState | None = None
    weight: int | None = None
    overrules: AdminState | None = None
    since: float = 0.0

    def __bool__(self) -> bool:
        return self.state is not None or self.weight is not None


NOTHING: Final = Override()


@dataclass(frozen=True, slots=True)
class Overrides:
    """By target: BACKEND/SERVER, BACKEND (all its servers, those found later included), NODE, SITE and a name.

    A command for a backend replaces those for its servers; a later one for a server is an exception to it. `serial`
    counts commands.
    """

    of: Mapping[str, Override] = field(default_factory=dict)
    serial: int = 0

    def server(self, backend: str, server: str) -> Override:
        """What is set for a server, by its own name or by its backend's."""
        own, whole = self.of.get(f"{backend}/{server}", NOTHING), self.of.get(backend, NOTHING)
        if not own or not whole:
            return own or whole
        state = own.state or whole.state
        return Override(state, own.weight or whole.weight, own.overrules, max(own.since, whole.since))

    @property
    def node(self) -> AdminState | None:
        """What is set for this gateway."""
        return self.of.get(NODE, NOTHING).state

    def site(self, name: str) -> Override:
        """What is set for a site."""
        return self.of.get(SITE + name, NOTHING)

    def put(self, target: str, state: AdminState, now: float) -> "Overrides":
        """Set an admin state. Raises TooMany."""
        found = {name: replace(each, state=None, overrules=None) if _within(name, target) else each
                 for name, each in self.of.items()}  # fmt: skip
        found[target] = replace(found.get(target, NOTHING), state=state, overrules=None, since=now)
        return self._next(found)

    def weigh(self, target: str, weight: int, now: float) -> "Overrides":
        """Set a weight. Raises TooMany."""
        found = {name: replace(each, weight=None) if _within(name, target) else each for name, each in self.of.items()}
        found[target] = replace(found.get(target, NOTHING), weight=weight, since=now)
        return self._next(found)

    def ready(self, target: str, servers: Iterable[tuple[str, AdminState]], now: float) -> "Overrides":
        """End drain and maintenance: what commands have set, and otherwise what the agents of `servers` have reported.

        `servers`: those of the target by name, with their admin states at present. Raises TooMany.
        """
        found = {name: replace(each, state=None, overrules=None) if _within(name, target) or name == target else each
                 for name, each in self.of.items()}  # fmt: skip
        for name, present in servers:
            backend, _, server = name.partition("/")
            whole = found.get(backend, NOTHING).state
            before = self.server(backend, server)
            agent = present if present not in {"ready", before.state} else before.overrules
            if agent is not None or whole is not None:
                found[name] = replace(found.get(name, NOTHING), state="ready", overrules=agent, since=now)
        return self._next(found)

    def forget(self, target: str) -> "Overrides":
        """Without anything for a target and its servers."""
        return self._next(
            {name: each for name, each in self.of.items() if name != target and not _within(name, target)}
        )

    def _next(self, found: Mapping[str, Override]) -> "Overrides":
        kept = {name: each for name, each in found.items() if each}
        if len(kept) > MOST:
            raise TooMany(f"more than {MOST} servers and backends have overrides: `gateway forget` those that are gone")
        return Overrides(kept, self.serial + 1)


def _within(name: str, target: str) -> bool:
    """Whether `name` is a server of the backend `target`."""
    return target != NODE and name.startswith(f"{target}/")

"""Chooses schedules for test_simulation.py: few that meet all the situations which many meet.

    python -m tests.heartbeat.situations [400]

A situation is a change of a holding's state by what a node heard, or as time passed, a beat that was refused, or an
action with the states that the node was in; all of them by the kind of cluster. Choose again when the logic of nodes has
changed.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias
from unittest import mock

from gateway.heartbeat.beat import Beat
from gateway.heartbeat.node import Action
from tests.heartbeat.simulator import Host
from tests.heartbeat.test_simulation import play

Situation: TypeAlias = tuple[str | bool | int, ...]


class Watched(Host):
    """A host that notes what it meets."""

    met: set[Situation]

    def _states(self) -> list[str]:
        return [holding.state.name for holding in self.node.holdings.values()] if self.node is not None else []

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        node, before, refused = self.node, self._states(), self.cluster.refused
        yield
        kind = self.cluster.with_disk, len(self.cluster.names)
        if self.cluster.refused != refused:
            self.met.add(("refused", node is None))
        if node is not None and self.node is node:
            pairs = zip(before, self._states(), strict=True)
            self.met.update((what, was, is_, *kind) for was, is_ in pairs if was != is_)

    def hear(self, beat: Beat, link: str) -> None:
        with self._noted("heard"):
            super().hear(beat, link)

    def tick(self, when: float) -> None:
        with self._noted("time"):
            super().tick(when)

    def do(self, action: Action) -> None:
        cluster = self.cluster
        kind = cluster.stumble > 0, cluster.with_witness, cluster.with_disk, len(cluster.names)
        self.met.add((type(action).__name__, *sorted(self._states()), *kind))
        super().do(action)


def situations(seed: int) -> tuple[int, set[Situation]]:
    """What a schedule meets. Raises AssertionError if it fails."""
    Watched.met = set()
    with mock.patch("tests.heartbeat.simulator.Host", Watched):
        failure = play(seed)
    assert not failure, failure
    return seed, Watched.met


def choose(met: Mapping[int, Collection[Situation]]) -> list[int]:
    """Schedules that meet each situation."""
    missing = {situation for found in met.values() for situation in found}
    chosen: list[int] = []
    while missing:
        best = max(met, key=lambda seed: len(missing.intersection(met[seed])))
        missing.difference_update(met[best])
        chosen.append(best)
    return sorted(chosen)


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        met = dict(pool.map(situations, range(int((sys.argv[1:] or ["400"])[0])), chunksize=10))
    chosen = choose(met)
    count = len(set().union(*met.values()))
    sys.stdout.write(f"{count} situations in {len(met)} schedules; {len(chosen)} meet all of them:\n")
    sys.stdout.write(f"{', '.join(map(str, chosen))}\n")

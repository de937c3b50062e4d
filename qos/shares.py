"""How many sessions one gateway of a cluster may have, so that all have no more than they may together. Pure.

Each gateway repeatedly announces how many sessions it has and how many clients want one. From the last announcements
each one computes the same division: every gateway keeps what it has, and free sessions are divided by demand. There are
no queries and no answers to wait for, so no gateway stops because another one does.

Sessions of a gateway that has fallen silent are still somewhere: their clients come to another gateway, which adopts
them, or go on at one that cannot be heard from here. They keep their places until they have been adopted, or for `idle`
after its last message; those that no gateway adopted by then have ended, as far as is known here.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

SILENT: Final = 1.0
"""Seconds after its last word from which on a gateway gets no part of the free sessions."""


class Word(NamedTuple):
    """What a gateway has said: its sessions, the clients that want one; when that was; and what we had adopted then."""

    live: int
    wanting: int
    at: float
    adopted: int = 0


class Shares:
    """The division as the gateway `own` sees it. Times are seconds of a clock that never jumps."""

    def __init__(self, own: str, others: Iterable[str], now: float) -> None:
        self._own = own
        self._said = Word(0, 0, now)
        self._heard: dict[str, Word] = {name: Word(0, 0, now) for name in others if name != own}

    def say(self, live: int, wanting: int, adopted: int, now: float) -> None:
        """This gateway tells the others so; `adopted`: sessions that it has ever adopted."""
        self._said = Word(live, wanting, now, adopted)

    def hear(self, name: str, live: int, wanting: int, now: float) -> None:
        """Another gateway says so. Names that are not of the cluster are not listened to."""
        if name in self._heard:
            self._heard[name] = Word(live, wanting, now, self._said.adopted)

    def silent(self, now: float) -> list[str]:
        """The gateways that are not heard."""
        return [name for name, word in self._heard.items() if now - word.at > SILENT]

    def share(self, most: int, idle: float, now: float) -> int:
        """How many sessions this gateway may have, of `most` in all."""
        silent = set(self.silent(now))
        heard = {name: word for name, word in self._heard.items() if name not in silent}
        away = [word for name, word in self._heard.items() if name in silent and now - word.at <= idle]
        returned = max((self._said.adopted - word.adopted for word in away), default=0)
        elsewhere = max(0, sum(word.live for word in away) - returned)
        free = max(0, most - self._said.live - sum(word.live for word in heard.values()) - elsewhere)
        weights = {name: 1 + word.wanting for name, word in {**heard, self._own: self._said}.items()}
        whole = sum(weights.values())
        part = free * weights[self._own] // whole
        if self._own == min(weights, key=lambda name: (-weights[name], name)):
            part += free - sum(free * weight // whole for weight in weights.values())
        return self._said.live + part

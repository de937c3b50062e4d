"""The event loop of a worker: asyncio with the poller in place of its selector.

Connections are handled inside the selector, which returns to asyncio only for asyncio's own events: timers, signals,
the channel. So a batch of requests costs one epoll_wait and no Python code.
"""

import asyncio
import selectors
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from select import EPOLLIN, EPOLLOUT
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any, TypeVarTuple

from gateway.proxy.conn import Poller

Ts = TypeVarTuple("Ts")


def _descriptor(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


class _ByFile(Mapping[Any, SelectorKey]):
    """Selector keys by file or descriptor."""

    def __init__(self, keys: dict[int, SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, file: Any) -> SelectorKey:
        return self._keys[_descriptor(file)]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)


class Selector(selectors.BaseSelector):
    """Watches asyncio's files in the poller's epoll set."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._keys: dict[int, SelectorKey] = {}
        self._map = _ByFile(self._keys)

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Watch a file. Raises KeyError if it is watched already, OSError."""
        descriptor = _descriptor(fileobj)
        if descriptor in self._keys:
            raise KeyError(f"{fileobj!r} is watched already")
        wanted = (EPOLLIN if events & EVENT_READ else 0) | (EPOLLOUT if events & EVENT_WRITE else 0)
        self._poller.watch_file(descriptor, wanted)
        self._keys[descriptor] = key = SelectorKey(fileobj, descriptor, events, data)
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching a file. Raises KeyError if it is not watched."""
        key = self._keys.pop(_descriptor(fileobj))
        with suppress(OSError):  # already closed
            self._poller.forget_file(key.fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Handle connections until asyncio has an event, or for `timeout` seconds."""
        ready = []
        for descriptor, events in self._poller.wait(timeout):
            key = self._keys.get(descriptor)
            if key is not None:
                found = (EVENT_READ if events & ~EPOLLOUT else 0) | (EVENT_WRITE if events & ~EPOLLIN else 0)
                ready.append((key, found & key.events))
        return ready

    def get_map(self) -> Mapping[Any, SelectorKey]:
        """Return the keys by file."""
        return self._map


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop with a poller, which is stopped when the loop is closed."""

    def __init__(self) -> None:
        self.poller = Poller()
        super().__init__(Selector(self.poller))
        self.poller.start(self)

    def close(self) -> None:
        """As asyncio's; also closes the poller's descriptors."""
        if not self.is_closed():
            super().close()
            self.poller.close()

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's; a callback that a connection schedules runs before further connections are handled."""
        self.poller.interrupted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's; the poller then waits no longer than until that time."""
        self.poller.interrupted = True
        return super().call_at(when, callback, *args, context=context)

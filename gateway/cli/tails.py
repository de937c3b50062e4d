"""Follows the tails of one or more running gateways, through reloads and upgrades, until they end."""

import select
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import click

from gateway.cli.gateways import Gateway, Tail
from gateway.cli.output import complain, fail
from gateway.process.tail import Wanted
from gateway.process.tail_connection import NoTail, TailConnection


class Tails:
    """What `gateways` say of the requests that are wanted. Ends the program if one of them cannot be followed."""

    def __init__(self, gateways: Iterable[Gateway], wanted: Wanted) -> None:
        self._wanted = wanted
        self._tails: list[tuple[Gateway, Tail]] = []
        for gateway in gateways:
            try:
                self._tails.append((gateway, gateway.follow(wanted)))
            except NoTail as error:
                fail(f"the gateway ({gateway}) cannot be followed: {error}")

    def announce(self, what: str) -> None:
        """Tell people, who may wait long, that it has begun; a file or a program is told nothing."""
        if sys.stderr.isatty():
            names = ", ".join(str(gateway) for gateway, _ in self._tails)
            complain(f"waiting for {what} of {names}; Ctrl-C stops it")

    def read(self, seconds: float | None = None) -> list[tuple[Gateway, dict[str, Any]]] | None:
        """What has come, waiting for it at most so long; None: every gateway has ended."""
        if not self._tails:
            return None
        poll = select.poll()
        for _, tail in self._tails:
            for sock in tail.sockets:
                poll.register(sock, select.POLLIN)
        poll.poll(None if seconds is None else max(0, int(seconds * 1000)))
        found: list[tuple[Gateway, dict[str, Any]]] = []
        for gateway, tail in list(self._tails):
            lines = tail.read()
            if tail.successor is not None:
                self._go_on(gateway, tail.successor)
                tail.successor = None
            if lines is None:
                tail.close()
                self._tails.remove((gateway, tail))
            else:
                found += ((gateway, line) for line in lines)
        return found

    def _go_on(self, gateway: Gateway, path: Path) -> None:
        """Follow the gateway that has taken over, too."""
        try:
            self._tails.append((gateway, TailConnection(path, self._wanted)))
        except NoTail as error:
            complain(f"the gateway that has taken over from {gateway} cannot be followed: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _gateway, tail in self._tails:
            tail.close()


def wanted(when: str, **others: Any) -> Wanted:
    """What is to be followed; ends the program if the expression or a name is wrong."""
    try:
        return Wanted.parse(Wanted.of(when, **others).text())
    except ValueError as error:
        raise click.UsageError(str(error)) from None

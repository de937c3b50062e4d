"""Commands of an operator that set or end overrides: which targets there are, and what a command changes. Pure."""

from collections.abc import Callable
from typing import Final

from gateway.config import Snapshot
from gateway.config.overrides import NODE, SITE, WEIGHTS, AdminState, Overrides, TooMany
from gateway.config.problem import suggest
from gateway.config.snapshot import ServerKey

COMMANDS: Final = ("drain", "ready", "maintenance", "weight", "forget", "evacuate-site", "readmit-site")


class Refused(ValueError):
    """The command cannot be carried out; the text says why."""


def change(
    snapshot: Snapshot, command: str, argument: str, present: Callable[[ServerKey], AdminState], now: float
) -> Overrides:
    """The overrides after a command. Raises Refused.

    `argument` is a target, for `weight` also a number. `present` is the admin state that a server has at present; `now`
    is in seconds since 1970.
    """
    target, _, number = argument.partition(" ")
    if number and command != "weight":
        raise Refused(f"{command} takes one name, not {argument!r}")
    overrides = snapshot.overrides
    if command in {"evacuate-site", "readmit-site"}:
        return _evacuation(snapshot, command, target, now)
    if command != "forget" or target not in overrides.of:
        _require(snapshot, target)
    try:
        match command:
            case "drain" | "maintenance":
                return overrides.put(target, "drain" if command == "drain" else "maintenance", now)
            case "ready":
                servers = [("/".join(key), present(key)) for key in snapshot.slots if _of(key, target)]
                return overrides.ready(target, servers, now)
            case "weight":
                return overrides.weigh(target, _weight(target, number), now)
            case _:
                return overrides.forget(target)
    except TooMany as error:
        raise Refused(str(error)) from None


def _evacuation(snapshot: Snapshot, command: str, name: str, now: float) -> Overrides:
    """The overrides after the command to evacuate this site, or to end that."""
    sites = snapshot.site.sites
    if sites is None:
        raise Refused("there are no other sites: the site file has no `sites`")
    if name != sites.self_:
        raise Refused(f"this gateway is of the site {sites.self_}: give the command at a gateway of {name}")
    try:
        if command == "evacuate-site":
            return snapshot.overrides.put(SITE + name, "drain", now)
        if sites.window(now) is not None:  # which would evacuate it still
            return snapshot.overrides.put(SITE + name, "ready", now)
    except TooMany as error:
        raise Refused(str(error)) from None
    return snapshot.overrides.forget(SITE + name)


def _weight(target: str, number: str) -> int:
    if target == NODE:
        raise Refused("a gateway has no weight: name a server or a backend")
    if not number.isascii() or not number.isdigit() or int(number) not in WEIGHTS:
        hint = "; for no requests at all, use drain or maintenance" if number == "0" else ""
        raise Refused(f"a weight is a number from {WEIGHTS.start} to {WEIGHTS.stop - 1}{hint}")
    return int(number)


def _of(key: ServerKey, target: str) -> bool:
    return target in {key[0], "/".join(key)}


def _require(snapshot: Snapshot, target: str) -> None:
    """Refuse a target that is not in the site."""
    backend, slash, server = target.partition("/")
    backends = snapshot.site.backends
    if target == NODE or (backend in backends and not slash) or (backend, server) in snapshot.slots:
        return
    if backend not in backends:
        raise Refused(f"there is no backend {backend}{suggest(backend, backends)}")
    servers = [name for other, name in snapshot.slots if other == backend]
    raise Refused(f"the backend {backend} has no server {server}{suggest(server, servers)}")

"""Creates the balancing policy that a site file names."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Final

from gateway.balance.by_key import ByKey
from gateway.balance.policy import Policy
from gateway.config.policies import POLICIES


def _maker(where: str, arguments: tuple[str, ...]) -> Callable[[], Policy]:
    module, _, name = where.partition(".")
    return partial(getattr(import_module(f"gateway.balance.{module}"), name), *arguments)


# All modules are imported in advance: after its start a worker cannot open files, and a reload can name any of them.
_MAKERS: Final = {name: _maker(*policy) for name, policy in POLICIES.items()}


def new_policy(balance: str) -> Policy:
    """A new policy: `balance` is a name in POLICIES, or header:NAME for the hash of a header."""
    kind, _, header = balance.partition(":")
    return ByKey("header", header) if kind == "header" else _MAKERS[balance]()

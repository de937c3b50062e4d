"""The admin state of a server: what its agent reports, and what an operator's command says. Pure."""

from typing import Final

from gateway.board import DRAIN, MAINTENANCE, READY
from gateway.config.overrides import AdminState, Override

NUMBERS: Final[dict[AdminState, int]] = {"ready": READY, "drain": DRAIN, "maintenance": MAINTENANCE}
NAMES: Final[dict[int, AdminState]] = {number: name for name, number in NUMBERS.items()}


def reported(agent: int, *, idle: bool) -> AdminState:
    """What an agent's reports come to: one that wants no requests for now (`idle`) drains its server."""
    return "drain" if idle and agent == READY else NAMES[agent]


def decide(override: Override, agent: int, *, idle: bool) -> tuple[int, bool]:
    """The admin state of a server and whether it counts as idle: the stricter of what a command and its agent say.

    `ready` overrules what the agent reported when the command was given.
    """
    if override.state == "ready" and override.overrules == reported(agent, idle=idle):
        return READY, False
    if override.state is None or override.state == "ready":
        return agent, idle
    return max(NUMBERS[override.state], agent), idle

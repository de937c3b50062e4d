import pytest

from gateway.board import DRAIN, MAINTENANCE, READY
from gateway.config.overrides import NOTHING, Override
from gateway.load.admin_state import decide, reported


@pytest.mark.parametrize("agent", [READY, DRAIN, MAINTENANCE])
def test_without_a_command_the_agent_decides(agent):
    assert decide(NOTHING, agent, idle=True) == (agent, True)
    assert decide(Override(weight=5), agent, idle=False) == (agent, False)


@pytest.mark.parametrize(
    "command, agent, admin",
    [
        ("drain", READY, DRAIN),
        ("drain", DRAIN, DRAIN),
        ("drain", MAINTENANCE, MAINTENANCE),
        ("maintenance", READY, MAINTENANCE),
        ("maintenance", DRAIN, MAINTENANCE),
    ],
)
def test_the_stricter_of_command_and_agent_counts(command, agent, admin):
    assert decide(Override(command), agent, idle=False) == (admin, False)


def test_ready_overrules_only_what_the_agent_reported_then():
    override = Override("ready", overrules="drain")
    assert decide(override, DRAIN, idle=False) == (READY, False)
    assert decide(override, READY, idle=True) == (READY, False)  # a weight of 0 % is a drain
    assert decide(override, MAINTENANCE, idle=False) == (MAINTENANCE, False)
    assert decide(Override("ready"), DRAIN, idle=False) == (DRAIN, False)


def test_what_an_agent_reports_has_a_name():
    assert reported(READY, idle=False) == "ready"
    assert reported(READY, idle=True) == "drain"
    assert reported(MAINTENANCE, idle=True) == "maintenance"
